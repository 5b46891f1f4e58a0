"""Logs: one line an event, its name constant, its facts as fields with units.

``log = structlog.get_logger()``, then ``log.info("task.finished", changes=12)`` prints
``{"event":"task.finished","at":"2026-11-21T07:12:44.120000Z","level":"info",…}``.
What all lines of a task have in common is bound once: ``with bound(task=8123, …)``, or
``bind(task=8123, …)`` to the end of the asyncio task; each has its own.

Nothing secret or personal appears: see ``runtime.log_guard``.
"""

import logging
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, Literal, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from runtime.log_guard import guard, show

__all__ = ["bind", "bound", "configure"]

FRAMES_SHOWN = 12
# What these say below a warning we say better; httpx2 would log every calendar's URL.
CHATTY = ("asyncio", "httpcore", "httpcore2", "httpx", "httpx2", "uvicorn")
NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})

# One mapping in one variable, guarded once: structlog's own way, a variable a field,
# looks through all variables that there are for each line.
_in_common: ContextVar[Mapping[str, Any]] = ContextVar("in_common", default=NOTHING)


def bind(**fields: object) -> None:
    """Add fields to all lines of this asyncio task from here on."""
    _in_common.set({**_in_common.get(), **show(fields)})


@contextmanager
def bound(**fields: object) -> Iterator[None]:
    """Add fields to all lines of a block."""
    before = _in_common.set({**_in_common.get(), **show(fields)})
    try:
        yield
    finally:
        _in_common.reset(before)


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
    writer = structlog.WriteLogger(stream)
    structlog.configure(
        processors=[_tell_exception, guard, _begin, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: writer,
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


def _begin(_: WrappedLogger, level: str, event: EventDict) -> EventDict:
    """Put first what every line has, and then what was bound, shown as it may be."""
    return {
        "event": event.pop("event", None),
        "at": f"{datetime.now(UTC).isoformat(timespec='microseconds')[:-6]}Z",
        "level": level,
        **_in_common.get(),
        **event,
    }


def _tell_exception(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Tell an exception in one field, without locals, source or database details."""
    if "exc_info" not in event:
        return event
    told = event.pop("exc_info")
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


def _to_json(event: EventDict, **_: object) -> str:
    return msgspec.json.encode(event).decode()
