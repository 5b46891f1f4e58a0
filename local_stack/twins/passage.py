"""The passage of a push: what the switchboard has in store for it on its way."""

import asyncio
from dataclasses import dataclass, field

from local_stack.twins.switchboard import PUSH_FAULTS, Fault, FaultKind, Switchboard

HELD_AT_MOST_S = 1.0


@dataclass
class Passages:
    """Passages of one twin's pushes. Pushes to one receiver can overtake each other."""

    switchboard: Switchboard
    _held: dict[str, asyncio.Event] = field(default_factory=dict)

    def begin(self, receiver: str, *others: str) -> "Passage":
        """Let the switchboard strike a push; the others narrow faults, too."""
        fault = self.switchboard.strike("push", receiver, *others, kinds=PUSH_FAULTS)
        return Passage(receiver, fault, self._held)


@dataclass(frozen=True)
class Passage:
    """One push, on its way to a channel, a subscription, a webhook."""

    receiver: str
    fault: Fault | None
    held: dict[str, asyncio.Event]

    @property
    def kind(self) -> FaultKind | None:
        return self.fault.kind if self.fault else None

    @property
    def is_lost(self) -> bool:
        return self.kind is FaultKind.DROP

    @property
    def times(self) -> int:
        """How often the push is sent."""
        return 2 if self.kind is FaultKind.DUPLICATE else 1

    async def delay(self) -> None:
        """Wait as long as a fault says."""
        if self.fault is not None and self.kind is FaultKind.DELAY:
            await asyncio.sleep(self.fault.delay_s)

    async def be_overtaken(self) -> None:
        """Wait until another push to this receiver was sent, where a fault says so."""
        if self.kind is not FaultKind.REORDER:
            return
        overtaken = self.held.setdefault(self.receiver, asyncio.Event())
        try:
            await asyncio.wait_for(overtaken.wait(), HELD_AT_MOST_S)
        except TimeoutError:
            pass
        finally:
            self.held.pop(self.receiver, None)

    def end(self) -> None:
        """Let go the push that was to be overtaken by this one."""
        overtaken = self.held.get(self.receiver)
        if overtaken is not None and self.kind is not FaultKind.REORDER:
            overtaken.set()
