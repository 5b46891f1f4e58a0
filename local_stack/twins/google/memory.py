"""Carrying a twin's whole state over a restart, as one JSON document."""

from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from local_stack.twins.google.channels import Channel
from local_stack.twins.google.oauth import Grant
from local_stack.twins.google.state import (
    AccountState,
    CalendarState,
    EventRecord,
    Json,
)
from local_stack.twins.grants import KeptAccess
from local_stack.twins.memory import Memory, remembered

if TYPE_CHECKING:
    from local_stack.twins.google.twin import GoogleTwin

FORM = 1  # raise it with every change to what is kept
KEPT_OF_EVENT = ("id", "body", "etag", "version", "changed_at", "overrides")
APART = frozenset({"events", "exceptions", "changes"})


class GoogleMemory(Memory):
    """What a twin knows. Faults, behaviour and logs begin anew with a process."""

    accounts: list[AccountState]
    calendars: list[Json]
    grants: list[Grant]
    access: KeptAccess
    channels: list[Channel]
    used_channel_ids: list[str]
    last_etag: int
    shared: list[str]


def dump(twin: "GoogleTwin") -> bytes:
    """Return everything the twin knows."""
    with twin.store.exclusive():
        return msgspec.json.encode(
            GoogleMemory(
                form=FORM,
                accounts=list(twin.store.accounts.values()),
                calendars=[_calendar(c) for c in twin.store.calendars.values()],
                grants=twin.oauth.grants,
                access=twin.oauth.kept_access(),
                channels=list(twin.channels.by_id.values()),
                used_channel_ids=sorted(twin.channels.used_ids),
                last_etag=twin.store.last_etag,
                shared=sorted(twin.store.shared),
            )
        )


def load(twin: "GoogleTwin", document: bytes) -> None:
    """Make a fresh twin know what another one knew; tokens and channels live on.

    Raises:
        Unreadable: nothing was taken over.
    """
    memory = remembered(document, GoogleMemory, form=FORM)
    with twin.store.exclusive():
        for account in memory.accounts:
            twin.store.accounts[account.email] = account
        for stored in memory.calendars:
            calendar = _restored(stored)
            twin.store.calendars[calendar.id] = calendar
            for event in stored["events"]:
                twin.store.restore(calendar, EventRecord(**_timed(event)))
        twin.oauth.restore(memory.grants, memory.access)
        for channel in memory.channels:
            twin.channels.add(channel)
        twin.channels.used_ids.update(memory.used_channel_ids)
        twin.store.last_etag = memory.last_etag
        twin.store.shared.update(memory.shared)


def _calendar(calendar: CalendarState) -> Json:
    stored: dict[str, Any] = {
        field.name: getattr(calendar, field.name)
        for field in fields(calendar)
        if field.name not in APART
    }
    # In the order of their changes, which the restored calendar needs too.
    stored["events"] = [
        {name: getattr(calendar.events[event_id], name) for name in KEPT_OF_EVENT}
        for event_id in calendar.changes
    ]
    return stored


def _restored(stored: Json) -> CalendarState:
    known = {key: value for key, value in stored.items() if key not in APART}
    return CalendarState(**_timed(known))


def _timed(stored: Json) -> Json:
    return {**stored, "changed_at": datetime.fromisoformat(stored["changed_at"])}
