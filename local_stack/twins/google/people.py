"""Who has an account at the twin, what they see there, and whom they let in."""

from collections.abc import Iterable
from dataclasses import dataclass

from local_stack.twins.google.oauth import ALL_SCOPES, Grant, OAuth
from local_stack.twins.google.personal_calendars import Calendar
from local_stack.twins.google.state import AccountState, CalendarState, Store
from local_stack.twins.google.times import zone_named
from local_stack.twins.google.writer import Writer, new_id


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
                state = AccountState(email, name or email.partition("@")[0], time_zone)
                self.store.accounts[email] = state
                self.add_calendar(email, email, email, time_zone)
        return Account(self, email)

    def add_calendar(
        self,
        owner: str,
        calendar_id: str,
        summary: str,
        time_zone: str,
        *,
        generated: bool = False,
    ) -> Calendar:
        with self.store.exclusive():
            role = "reader" if generated else "owner"
            state = CalendarState(
                calendar_id,
                summary,
                zone_named(time_zone).key,
                owner,
                generated=generated,
                roles={owner: role},
                changed_at=self.store.clock.now(),
            )
            self.store.calendars[calendar_id] = state
            self.store.accounts[owner].list_calendar(calendar_id)
        return Calendar(self.writer, calendar_id)

    def calendar(self, calendar_id: str) -> Calendar:
        return Calendar(self.writer, self.store.calendars[calendar_id].id)


@dataclass(frozen=True)
class Account:
    """A person's Google account."""

    people: People
    email: str

    @property
    def primary(self) -> Calendar:
        """The calendar that has the account's address for an id."""
        return Calendar(self.people.writer, self.email)

    @property
    def calendars(self) -> list[Calendar]:
        """What the account's calendar list shows."""
        state = self.people.store.accounts[self.email]
        return [
            Calendar(self.people.writer, calendar_id)
            for calendar_id in state.listed
            if calendar_id not in state.removed
        ]

    def add_calendar(
        self,
        summary: str,
        *,
        time_zone: str | None = None,
        calendar_id: str | None = None,
        generated: bool = False,
    ) -> Calendar:
        """Make a secondary calendar, or one of those Google generates (holidays)."""
        state = self.people.store.accounts[self.email]
        domain = "group.v" if generated else "group"
        return self.people.add_calendar(
            self.email,
            calendar_id or f"{new_id()}@{domain}.calendar.google.com",
            summary,
            time_zone or state.time_zone,
            generated=generated,
        )

    def sign_in(
        self, *, client_id: str = "supacal", scopes: Iterable[str] = ALL_SCOPES
    ) -> Grant:
        """Consent: the grant has `access_token`, `refresh_token` and `expires_at`."""
        return self.people.oauth.sign_in(
            self.email, client_id=client_id, scopes=tuple(scopes)
        )

    def revoke(self, client_id: str | None = None) -> None:
        """Withdraw consent on the account page: every grant of a client ends."""
        self.people.oauth.revoke_account(self.email, client_id)

    def unsubscribe(self, calendar: Calendar) -> None:
        """Take a calendar out of the list, without losing access to it."""
        with self.people.store.exclusive():
            state = self.people.store.accounts[self.email]
            state.list_calendar(calendar.id, removed=True)
