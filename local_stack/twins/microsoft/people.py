"""Who has a mailbox at the twin, what they see there, and whom they let in."""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import NAMESPACE_DNS, uuid5

from local_stack.twins.microsoft.oauth import ALL_SCOPES, Grant, OAuth
from local_stack.twins.microsoft.personal_calendars import Calendar
from local_stack.twins.microsoft.state import AccountState, CalendarState, Store
from local_stack.twins.microsoft.writer import Writer
from local_stack.twins.microsoft.zones import zone_named


@dataclass
class People:
    """Everybody who has an account at this twin."""

    store: Store
    writer: Writer
    oauth: OAuth

    def account(self, email: str, *, name: str | None, time_zone: str) -> "Account":
        email = email.lower()
        with self.store.exclusive():
            if email not in self.store.accounts:
                zone_named(time_zone)
                self.store.accounts[email] = AccountState(
                    email,
                    name or email.partition("@")[0],
                    time_zone,
                    str(uuid5(NAMESPACE_DNS, email)),
                    str(uuid5(NAMESPACE_DNS, email.partition("@")[2])),
                )
                self.add_calendar(email, "Calendar", time_zone, default=True)
        return Account(self, email)

    def add_calendar(
        self,
        owner: str,
        name: str,
        time_zone: str,
        *,
        calendar_id: str | None = None,
        default: bool = False,
    ) -> Calendar:
        with self.store.exclusive():
            state = CalendarState(
                calendar_id or f"AAMkCal{secrets.token_urlsafe(36)}AAA=",
                name,
                owner,
                zone_named(time_zone).key,
                default=default,
                roles={owner: "owner"},
            )
            self.store.calendars[state.id] = state
            self.store.accounts[owner].listed.append(state.id)
        return Calendar(self.writer, state.id)

    def calendar(self, calendar_id: str) -> Calendar:
        return Calendar(self.writer, self.store.calendars[calendar_id].id)


@dataclass(frozen=True)
class Account:
    """A person's Microsoft account."""

    people: People
    email: str

    @property
    def primary(self) -> Calendar:
        """The calendar that the account was born with."""
        state = self.people.store.default_calendar(self.email)
        return Calendar(self.people.writer, state.id)

    @property
    def calendars(self) -> list[Calendar]:
        """What the account's list of calendars shows."""
        listed = self.people.store.accounts[self.email].listed
        return [Calendar(self.people.writer, calendar_id) for calendar_id in listed]

    def add_calendar(
        self,
        name: str,
        *,
        time_zone: str | None = None,
        calendar_id: str | None = None,
    ) -> Calendar:
        """Make another calendar of this account."""
        state = self.people.store.accounts[self.email]
        return self.people.add_calendar(
            self.email, name, time_zone or state.time_zone, calendar_id=calendar_id
        )

    def sign_in(
        self, *, client_id: str = "supacal", scopes: Iterable[str] = ALL_SCOPES
    ) -> Grant:
        """Consent: the grant has `access_token`, `refresh_token` and `expires_at`."""
        return self.people.oauth.sign_in(
            self.email, client_id=client_id, scopes=tuple(scopes)
        )

    def revoke(self, client_id: str | None = None) -> None:
        """Revoke the account's sign-ins: every token dies, of one client or of all."""
        self.people.oauth.revoke_account(self.email, client_id)
