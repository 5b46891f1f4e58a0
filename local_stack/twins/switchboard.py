"""The switchboard: what is to go wrong at a twin, where, and how often.

A fault waits at an operation ("events.list", "events.*", "push", "token", "*") and
strikes a number of times, or until it is cleared. The switchboard only decides; each
twin translates a fault into its provider's own words.

Calls: ANSWER an error instead of doing anything; CUT the connection after the work is
done, or before; SLOW the answer down; REVOKE the grant behind the call.
Pushes: DROP, DUPLICATE, DELAY, REORDER (the next message overtakes this one).
"""

import secrets
import threading
from collections.abc import Iterable
from enum import StrEnum
from fnmatch import fnmatchcase
from itertools import count

import msgspec


class FaultKind(StrEnum):
    """What goes wrong."""

    ANSWER = "answer"
    CUT_AFTER = "cut_after"
    CUT_BEFORE = "cut_before"
    SLOW = "slow"
    REVOKE = "revoke"
    DROP = "drop"
    DUPLICATE = "duplicate"
    DELAY = "delay"
    REORDER = "reorder"


PUSH_FAULTS = frozenset(
    {FaultKind.DROP, FaultKind.DUPLICATE, FaultKind.DELAY, FaultKind.REORDER}
)
CALL_FAULTS = frozenset(FaultKind) - PUSH_FAULTS
CUTS = frozenset({FaultKind.CUT_AFTER, FaultKind.CUT_BEFORE})
CHANCE_STEPS = 1_000_000


class Fault(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One thing that is to go wrong; None in `times` means until it is cleared.

    `status` and `reason` belong to ANSWER: 410, 412, 429, 403 with a rate reason, 5xx.
    `subject` narrows it to one calendar, channel or account; `chance` to a share.
    """

    kind: FaultKind
    operation: str = "*"
    times: int | None = 1
    subject: str | None = None
    chance: float = 1.0
    skip: int = 0
    status: int = 503
    reason: str | None = None
    retry_after_s: float | None = None
    delay_s: float = 0.0
    id: int = 0
    struck: int = 0

    def waits_at(self, operation: str, subjects: Iterable[str]) -> bool:
        """Tell whether this fault concerns a call; chance may still let it off."""
        if self.times is not None and self.struck >= self.times:
            return False
        if not fnmatchcase(operation, self.operation):
            return False
        return self.subject is None or self.subject in subjects


class Switchboard:
    """The faults of one twin. May be used from any thread."""

    def __init__(self) -> None:
        self._faults: dict[int, Fault] = {}
        self._ids = count(1)
        self._lock = threading.Lock()

    @property
    def faults(self) -> list[Fault]:
        """Every fault still standing, spent ones included, so that strikes show."""
        with self._lock:
            return list(self._faults.values())

    def add(self, fault: Fault) -> Fault:
        """Set a fault; the answer carries the id to clear it by."""
        with self._lock:
            fault.id = next(self._ids)
            self._faults[fault.id] = fault
        return fault

    def clear(self, fault_id: int | None = None) -> None:
        """Clear one fault, or all of them."""
        with self._lock:
            if fault_id is None:
                self._faults.clear()
            else:
                self._faults.pop(fault_id, None)

    def strike(
        self, operation: str, *subjects: str, kinds: frozenset[FaultKind]
    ) -> Fault | None:
        """Return the oldest fault that strikes this operation now, and count it."""
        if not self._faults:
            return None
        with self._lock:
            for fault in self._faults.values():
                if fault.kind in kinds and fault.waits_at(operation, subjects):
                    if fault.skip > 0:
                        fault.skip -= 1
                    elif _falls(fault.chance):
                        fault.struck += 1
                        return fault
        return None

    # What tests and demos say most often, in one word each.

    def answer(
        self,
        operation: str,
        status: int,
        *,
        reason: str | None = None,
        times: int | None = 1,
        subject: str | None = None,
        retry_after_s: float | None = None,
    ) -> Fault:
        """Let an operation answer an error, without doing anything."""
        return self.add(
            Fault(
                kind=FaultKind.ANSWER,
                operation=operation,
                status=status,
                reason=reason,
                times=times,
                subject=subject,
                retry_after_s=retry_after_s,
            )
        )

    def cut(
        self, operation: str, *, after: bool = True, times: int | None = 1
    ) -> Fault:
        """Cut the connection once the work is done, or before anything is done."""
        kind = FaultKind.CUT_AFTER if after else FaultKind.CUT_BEFORE
        return self.add(Fault(kind=kind, operation=operation, times=times))

    def slow(self, operation: str, delay_s: float, *, times: int | None = 1) -> Fault:
        """Let an operation answer late."""
        return self.add(
            Fault(
                kind=FaultKind.SLOW, operation=operation, delay_s=delay_s, times=times
            )
        )

    def drop_pushes(self, *, times: int | None = 1, chance: float = 1.0) -> Fault:
        """Lose notifications."""
        return self.add(
            Fault(kind=FaultKind.DROP, operation="push", times=times, chance=chance)
        )

    def duplicate_pushes(self, *, times: int | None = 1, chance: float = 1.0) -> Fault:
        """Send notifications twice."""
        return self.add(
            Fault(
                kind=FaultKind.DUPLICATE, operation="push", times=times, chance=chance
            )
        )

    def delay_pushes(self, delay_s: float, *, times: int | None = 1) -> Fault:
        """Send notifications late."""
        return self.add(
            Fault(kind=FaultKind.DELAY, operation="push", delay_s=delay_s, times=times)
        )

    def reorder_pushes(self, *, times: int | None = 1) -> Fault:
        """Let the next notification of a channel overtake this one."""
        return self.add(Fault(kind=FaultKind.REORDER, operation="push", times=times))


def _falls(chance: float) -> bool:
    return chance >= 1.0 or secrets.randbelow(CHANCE_STEPS) < chance * CHANCE_STEPS
