"""What the demo's user has at each provider, made where it is not there yet."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeAlias

from local_stack.demo_users import DemoUser
from local_stack.twins.all_four import Twins
from local_stack.twins.google import Account
from providers.model import Provider, StoredTokens

HERE = Path(__file__).parent
OWN_CALENDARS = HERE.parent / "tests" / "data" / "calendars"
# Calendars that clubs really kept; where they are not at hand, ours do as well.
REAL_CALENDARS = ("machbar_16_feb_2019.ics", "fablab_cottbus.ics")
IN_OUTLOOK = OWN_CALENDARS / "practice.ics"
WITHOUT_END = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class DemoCalendar:
    """A calendar as the provider's list of them shows it."""

    id: str
    name: str
    time_zone: str
    kind: Literal["calendar", "bookings"] = "calendar"


@dataclass(frozen=True)
class DemoAccount:
    """What an OAuth callback, or a pasted API key, would have left us with."""

    provider: Provider
    email: str
    tokens: StoredTokens
    calendars: Sequence[DemoCalendar]

    @property
    def scopes(self) -> list[str]:
        return (self.tokens.scope or "").split()


Opened: TypeAlias = Callable[[Twins, DemoUser, Path], DemoAccount]


def google(twins: Twins, user: DemoUser, shared: Path) -> DemoAccount:
    """Two calendars beside the primary one."""
    twin = twins.google
    is_new = user.email not in twin.store.accounts
    account = twin.account(user.email, name=user.name)
    if is_new:
        for file in calendar_files(shared):
            _fill_calendar(account, file)
    grant = account.sign_in()
    return DemoAccount(
        Provider.GOOGLE,
        account.email,
        StoredTokens(
            access_token=grant.access_token,
            refresh_token=grant.refresh_token,
            expires_at=grant.expires_at,
            scope=" ".join(grant.scopes),
        ),
        [
            DemoCalendar(one.id, one.state.summary, one.time_zone)
            for one in account.calendars
            if one.id != account.primary.id
        ],
    )


def microsoft(twins: Twins, user: DemoUser, _: Path) -> DemoAccount:
    """One calendar, which the mailbox was born with."""
    twin = twins.microsoft
    is_new = user.email not in twin.store.accounts
    account = twin.account(user.email, name=user.name)
    if is_new:
        account.primary.import_ics(IN_OUTLOOK, into_present=True)
    grant = account.sign_in()
    return DemoAccount(
        Provider.MICROSOFT,
        account.email,
        StoredTokens(
            access_token=grant.access_token,
            refresh_token=grant.refresh_token,
            expires_at=grant.expires_at,
            scope=" ".join(grant.scopes),
        ),
        [DemoCalendar(account.primary.id, "Outlook", account.primary.time_zone)],
    )


def calendly(twins: Twins, user: DemoUser, _: Path) -> DemoAccount:
    """One thing to book, and a personal token."""
    host = twins.calendly.host(user.email, name=user.name)
    if not twins.calendly.store.known.types:
        host.event_type("Consultation")
    return DemoAccount(
        Provider.CALENDLY,
        host.email,
        _without_end(host.personal_token()),
        [DemoCalendar(host.uri, "Calendly", host.user.time_zone, "bookings")],
    )


def calcom(twins: Twins, user: DemoUser, _: Path) -> DemoAccount:
    """One thing to book, and an API key."""
    host = twins.calcom.host(user.email, name=user.name)
    if not twins.calcom.store.known.types:
        host.event_type("First appointment")
    return DemoAccount(
        Provider.CALCOM,
        host.email,
        _without_end(host.api_key()),
        [DemoCalendar(str(host.user.id), "Cal.com", host.user.time_zone, "bookings")],
    )


ACCOUNTS: Mapping[Provider, Opened] = {
    Provider.GOOGLE: google,
    Provider.MICROSOFT: microsoft,
    Provider.CALENDLY: calendly,
    Provider.CALCOM: calcom,
}


def calendar_files(shared: Path) -> list[Path]:
    """Return the .ics files of the demo: real ones where they are, else our own."""
    real = [shared / "data" / "calendars" / name for name in REAL_CALENDARS]
    if all(file.exists() for file in real):
        return real
    return sorted(OWN_CALENDARS.glob("*.ics"))[:2]


def _fill_calendar(account: Account, file: Path) -> None:
    name = file.stem.partition("_")[0].title()
    calendar = account.add_calendar(
        name, calendar_id=f"{file.stem.lower()}@group.calendar.google.com"
    )
    calendar.import_ics(file, into_present=True)


def _without_end(token: str) -> StoredTokens:
    return StoredTokens(
        access_token=token, refresh_token=None, expires_at=WITHOUT_END, scope=None
    )
