import asyncio
import io
import json
import logging as library_logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import structlog

from runtime import logging
from runtime.log_guard import BLOTTED
from runtime.sealing import Keyring

log = structlog.get_logger()


class Lines(io.StringIO):
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]

    def last(self) -> dict[str, Any]:
        return self.events()[-1]


@pytest.fixture
def lines() -> Iterator[Lines]:
    stream = Lines()
    root = library_logging.getLogger()
    handlers, level = list(root.handlers), root.level
    logging.configure(stream=stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_an_event_is_one_line_of_json(lines: Lines) -> None:
    log.info("task.finished", changes=12, duration_ms=184)
    line = lines.last()
    at = datetime.fromisoformat(line.pop("at"))
    assert at.utcoffset() == datetime.now(UTC).utcoffset()
    assert line == {
        "event": "task.finished",
        "level": "info",
        "changes": 12,
        "duration_ms": 184,
    }


@pytest.mark.parametrize(
    "field",
    [
        "access_token",
        "accessToken",
        "Authorization",
        "title",
        "attendee_email",
        "account_email",
        "X-Goog-Channel-Token",
        "api_key",
        "location",
        "SUPACAL_SECRET_KEYS",
        "database_url",
    ],
)
def test_a_field_with_a_secrets_name_is_blotted_out(lines: Lines, field: str) -> None:
    log.info("task.failed", **{field: "hunter2"}, nested={field: ["hunter2"]})
    assert "hunter2" not in lines.getvalue()


@pytest.mark.parametrize(
    "text",
    [
        "mira@example.org",
        "calendars/mira%40example.org/events",
        "postgresql://app:hunter2@db/app",
        "Bearer abcdef",
        "ya29.a0Example",
        "eyJhbGciOi.eyJzdWIi.c2ln",
        Keyring.parse(Keyring.generate()).channel_token(UUID(int=3)),
    ],
    ids=["address", "path", "url", "header", "google", "jwt", "channel"],
)
def test_what_looks_like_a_secret_is_blotted_out_anywhere(
    lines: Lines, text: str
) -> None:
    log.info("task.failed", reason=f"it said: {text}", items=[{"reason": text}])
    assert text not in lines.getvalue()
    assert BLOTTED in lines.last()["reason"]


def test_ids_counts_and_durations_are_shown(lines: Lines) -> None:
    shown = {"key_id": "k1", "token_count": 3, "body_bytes": 9, "subject_id": "s"}
    log.info("task.claimed", **shown)
    assert shown.items() <= lines.last().items()


def test_an_event_is_named_by_a_constant_not_by_a_sentence(lines: Lines) -> None:
    log.info("Budget review was moved")
    assert lines.last()["event"] == "log.unnamed"
    assert "Budget" not in lines.getvalue()


def test_an_exception_tells_its_chain_and_place_but_no_source(lines: Lines) -> None:
    try:
        try:
            ["Budget review"].index("mira@example.org")
        except ValueError as cause:
            raise RuntimeError("bad\nDETAIL: Budget review") from cause
    except RuntimeError:
        log.exception("task.failed")
    line = lines.last()
    assert line["raised"] == [
        "RuntimeError: bad",
        f"ValueError: '{BLOTTED}' is not in list",
    ]
    assert line["trace"][0].endswith("but_no_source")


def test_a_database_error_does_not_quote_values(lines: Lines) -> None:
    error = asyncpg.InvalidTextRepresentationError('bad uuid: "Budget review"')
    log.error("task.failed", exc_info=error)
    assert lines.last()["raised"] == ["InvalidTextRepresentationError: 22P02"]


def test_a_group_of_errors_tells_each(lines: Lines) -> None:
    group = ExceptionGroup("two", [ValueError("a"), KeyError("b")])
    log.error("task.failed", exc_info=group)
    told = ["ExceptionGroup: two (2 sub-exceptions)", "ValueError: a", "KeyError: 'b'"]
    assert lines.last()["raised"] == told


async def test_each_asyncio_task_has_what_was_bound_in_it(lines: Lines) -> None:
    async def run(number: int) -> None:
        with logging.bound(task=number):
            await asyncio.sleep(0)
            log.info("task.finished", number=number)

    await asyncio.gather(*(run(number) for number in range(20)))
    assert all(line["task"] == line["number"] for line in lines.events())
    log.info("worker.idle")
    assert "task" not in lines.last()


def test_what_is_bound_is_guarded_like_any_other_field(lines: Lines) -> None:
    with logging.bound(title="Budget review", reason="to mira@example.org"):
        log.info("task.finished")
    line = lines.last()
    assert (line["title"], line["reason"]) == (BLOTTED, f"to {BLOTTED}")


def test_warnings_of_libraries_come_out_as_events(lines: Lines) -> None:
    library_logging.getLogger("asyncio").error("lost %s", "mira@example.org")
    library_logging.getLogger("httpx2").info("GET https://example.org/calendars/x")
    (line,) = lines.events()
    assert line["event"] == "library.logged"
    assert line["logger"] == "asyncio"
    assert line["message"] == f"lost {BLOTTED}"


def test_the_console_form_is_guarded_too() -> None:
    stream = io.StringIO()
    logging.configure("console", stream)
    log.info("task.finished", title="Budget review", changes=2)
    structlog.reset_defaults()
    assert "task.finished" in stream.getvalue()
    assert "Budget" not in stream.getvalue()


def test_text_for_people_can_tell_an_exception() -> None:
    out = io.StringIO()
    logging.configure("console", out)
    log.error("task.failed", exc_info=ValueError("too late"))
    structlog.reset_defaults()
    assert "ValueError: too late" in out.getvalue()
