"""Logs: one line an event, its name constant, its facts as fields with units.

``log = structlog.get_logger()``, then ``log.info("task.finished", changes=12)`` prints
``{"event":"task.finished","at":"2026-11-21T07:12:44.120000Z","level":"info",…}``.
What all lines of a task have in common is bound once: ``with bound(task=8123, …)``;
each asyncio task has its own.

Nothing secret or personal appears: see ``runtime.log_guard``.
"""

import logging
import sys
import traceback
from collections.abc import Iterator
from typing import Literal, TextIO

import msgspec
import structlog
from structlog.contextvars import bound_contextvars as bound
from structlog.typing import EventDict, Processor, WrappedLogger

from runtime.log_guard import guard

__all__ = ["bound", "configure"]

FRAMES_SHOWN = 12
# What these say below a warning we say better; httpx2 would log every calendar's URL.
CHATTY = ("asyncio", "httpcore", "httpcore2", "httpx", "httpx2", "uvicorn")


def configure(
    format: Literal["json", "console"] = "json",
    stream: TextIO | None = None,
    level: int = logging.INFO,
) -> None:
    """Send all logs of the process, those of libraries too, to the stream (stderr)."""
    stream = stream or sys.stderr
    renderer: Processor = structlog.processors.JSONRenderer(serializer=_to_json)
    if format == "console":
        renderer = structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), timestamp_key="at"
        )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            _tell_exception,
            guard,
            _order,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_ToStructlog()], level=logging.WARNING, force=True)
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


class _ToStructlog(logging.Handler):
    """Libraries log in sentences; their warnings come out as one event of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().log(
            record.levelno,
            "library.logged",
            logger=record.name,
            message=record.getMessage(),
            exc_info=record.exc_info,
        )


def _tell_exception(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Tell an exception in one field, without locals, source or database details."""
    told = event.pop("exc_info", None)
    error = sys.exc_info()[1] if told is True else told
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        event["raised"] = [_sentence(one) for one in _chain(error)]
        frames = traceback.extract_tb(error.__traceback__)[-FRAMES_SHOWN:]
        event["trace"] = [f"{f.filename}:{f.lineno} {f.name}" for f in frames]
    return event


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, what it groups, and what caused it."""
    yield error
    if isinstance(error, BaseExceptionGroup):
        for grouped in error.exceptions:
            yield from _chain(grouped)
    cause = error.__cause__ or (
        None if error.__suppress_context__ else error.__context__
    )
    if cause is not None:
        yield from _chain(cause)


def _sentence(error: BaseException) -> str:
    # Postgres quotes values: in the lines of detail, and in all of class 22.
    sqlstate = getattr(error, "sqlstate", None)
    first_line = next(iter(str(error).splitlines()), "")
    if sqlstate is not None:
        first_line = sqlstate if sqlstate[:2] == "22" else f"{sqlstate} {first_line}"
    return f"{type(error).__name__}: {first_line}"


def _order(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {key: event.pop(key) for key in ("event", "at", "level")} | dict(event)


def _to_json(event: EventDict, **_: object) -> str:
    return msgspec.json.encode(event).decode()
