"""Where a scene of the tour plays: a calendar, and how its provider speaks of it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from local_stack.twins.all_four import Twins
from providers.model import Provider

SENT = frozenset({"delivered", "retrying"})
SPEAKS = {
    Provider.GOOGLE: "Google sends a push",
    Provider.MICROSOFT: "Outlook sends a notification",
    Provider.CALENDLY: "Calendly posts the booking",
    Provider.CALCOM: "Cal.com posts the booking",
}
ANSWERS = {
    Provider.GOOGLE: "Google's API has told what changed",
    Provider.MICROSOFT: "Microsoft Graph has told what changed",
}


class Sent(Protocol):
    """One request of a provider to us, as its twin wrote it down."""

    @property
    def sent_at(self) -> datetime: ...

    @property
    def outcome(self) -> str: ...


@dataclass(frozen=True)
class Stage:
    """One calendar of the demo's user. Who reads it is a task of a kind, by subject."""

    provider: Provider
    calendar_id: UUID
    task_kind: str
    subject_id: UUID
    log: Callable[[], Iterable[Sent]]

    @property
    def speaks(self) -> str:
        """What the provider does first."""
        return SPEAKS[self.provider]

    @property
    def answers(self) -> str | None:
        """What it does when it is asked; None where its first word says everything."""
        return ANSWERS.get(self.provider)

    def sent_at(self, since: datetime) -> datetime | None:
        """When the provider first spoke; None where it has not."""
        times = [
            one.sent_at
            for one in self.log()
            if one.sent_at >= since and one.outcome in SENT
        ]
        return min(times, default=None)


def log_of(
    twins: Twins, provider: Provider, provider_calendar_id: str
) -> Callable[[], Iterable[Sent]]:
    """Return what reads, of a twin's log, the part that is about one calendar."""
    match provider:
        case Provider.GOOGLE:
            return lambda: [
                push
                for push in twins.google.pushes.log
                if push.calendar_id == provider_calendar_id
            ]
        case Provider.MICROSOFT:
            return lambda: list(twins.microsoft.pushes.log)
        case Provider.CALENDLY:
            return lambda: list(twins.calendly.pushes.log)
        case Provider.CALCOM:
            return lambda: list(twins.calcom.pushes.log)
