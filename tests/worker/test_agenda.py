"""Promises of the agenda: when to look, and from where."""

import math
from datetime import UTC, datetime, timedelta

import pytest

from worker.agenda import (
    LOCKED_LONGEST_WAIT_S,
    PAYLOAD_PRECISION,
    SWEEP_EVERY_S,
    Agenda,
    Survey,
)

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Monotonic:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def monotonic() -> Monotonic:
    return Monotonic()


@pytest.fixture
def agenda(monotonic: Monotonic) -> Agenda:
    """An agenda after its first look, which found nothing due for an hour."""
    agenda = Agenda(monotonic)
    assert agenda.look_at <= monotonic()
    assert agenda.begin() is None
    agenda.learn(survey(wait_s=3600))
    return agenda


def survey(
    *,
    wait_s: float | None,
    at: datetime = NOON,
    scanned: int = 0,
    next_at: datetime | None = None,
) -> Survey:
    if next_at is None and wait_s is not None:
        next_at = at + timedelta(seconds=wait_s)
    return Survey(10, scanned, wait_s, next_at, at)


def payload(at: datetime) -> str:
    return f"{at.timestamp():.6f}"


def test_it_sleeps_until_the_next_task_is_due(
    agenda: Agenda, monotonic: Monotonic
) -> None:
    assert agenda.look_at == monotonic() + 3600


def test_it_sleeps_until_told_where_nothing_waits(agenda: Agenda) -> None:
    agenda.begin()
    agenda.learn(survey(wait_s=None))
    assert agenda.look_at == math.inf


def test_it_looks_again_at_once_after_a_full_batch(
    agenda: Agenda, monotonic: Monotonic
) -> None:
    agenda.begin()
    agenda.learn(survey(wait_s=3600, scanned=10))
    assert agenda.look_at == monotonic()


def test_the_floor_is_where_the_last_look_was(agenda: Agenda) -> None:
    assert agenda.begin() == NOON


def test_the_floor_stays_below_a_task_that_somebody_else_holds(agenda: Agenda) -> None:
    overdue = NOON - timedelta(minutes=5)
    agenda.begin()
    agenda.learn(survey(wait_s=0, next_at=overdue))
    assert agenda.begin() == overdue


def test_a_notification_lowers_the_floor_and_wakes(
    agenda: Agenda, monotonic: Monotonic
) -> None:
    late = NOON - timedelta(seconds=3)
    agenda.hear(payload(late))
    assert agenda.look_at <= monotonic()
    assert agenda.begin() == late - PAYLOAD_PRECISION


def test_a_notification_during_a_claim_is_not_forgotten_by_its_answer(
    agenda: Agenda, monotonic: Monotonic
) -> None:
    agenda.begin()
    late = NOON - timedelta(seconds=3)
    agenda.hear(payload(late))
    agenda.learn(survey(wait_s=3600))
    assert agenda.look_at <= monotonic()
    assert agenda.begin() == late - PAYLOAD_PRECISION


def test_a_notification_of_a_later_time_wakes_then(
    agenda: Agenda, monotonic: Monotonic
) -> None:
    agenda.hear(payload(NOON + timedelta(seconds=60)))
    assert agenda.look_at == pytest.approx(monotonic() + 60, abs=0.01)
    monotonic.seconds += 20
    agenda.hear(payload(NOON + timedelta(seconds=30)))
    assert agenda.look_at == pytest.approx(monotonic() + 10, abs=0.01)


def test_one_claim_in_ten_seconds_goes_without_a_floor(
    agenda: Agenda, monotonic: Monotonic
) -> None:
    without = 0
    for _ in range(60):  # a claim a second, for a minute
        monotonic.seconds += 1
        without += agenda.begin() is None
        agenda.learn(survey(wait_s=1))
    assert without == 60 / SWEEP_EVERY_S


@pytest.mark.parametrize("word", ["", "now", "1e999", "nan"])
def test_a_notification_without_a_time_asks_for_a_look_without_a_floor(
    agenda: Agenda, monotonic: Monotonic, word: str
) -> None:
    agenda.hear(word)
    assert agenda.look_at <= monotonic()
    assert agenda.begin() is None


def test_a_reconnect_during_a_claim_makes_the_next_one_go_without_a_floor(
    agenda: Agenda, monotonic: Monotonic
) -> None:
    agenda.begin()
    agenda.forget()
    agenda.learn(survey(wait_s=3600))
    assert agenda.look_at <= monotonic()
    assert agenda.begin() is None


def test_due_tasks_in_other_hands_are_looked_at_less_and_less_often(
    agenda: Agenda, monotonic: Monotonic
) -> None:
    waits = []
    for _ in range(8):
        agenda.begin()
        agenda.learn(survey(wait_s=0))
        waits.append(agenda.look_at - monotonic())
    assert waits[:3] == pytest.approx([0.02, 0.04, 0.08])
    assert waits[-1] == pytest.approx(LOCKED_LONGEST_WAIT_S)
    agenda.begin()
    agenda.learn(survey(wait_s=60))
    agenda.begin()
    agenda.learn(survey(wait_s=0))
    assert agenda.look_at - monotonic() == pytest.approx(0.02)


def test_a_clock_that_was_set_makes_it_look(
    agenda: Agenda, monotonic: Monotonic
) -> None:
    monotonic.seconds += 15
    agenda.check_clock(NOON + timedelta(seconds=15.2))
    assert agenda.look_at > monotonic()
    agenda.check_clock(NOON + timedelta(hours=1))
    assert agenda.look_at <= monotonic()
    assert agenda.begin() is None


def test_a_worker_that_hears_nothing_looks_now_and_then(
    agenda: Agenda, monotonic: Monotonic
) -> None:
    agenda.poll_every_s = 2
    assert agenda.look_at == monotonic() + 2
