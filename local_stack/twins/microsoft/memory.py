"""Carrying a twin's whole state over a restart, as one JSON document."""

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from local_stack.twins.grants import KeptAccess
from local_stack.twins.memory import Memory, read, remembered, written
from local_stack.twins.microsoft.oauth import Grant
from local_stack.twins.microsoft.state import (
    AccountState,
    CalendarState,
    EventRecord,
    Json,
)
from local_stack.twins.microsoft.subscriptions import Subscription
from local_stack.twins.series import Series

if TYPE_CHECKING:
    from local_stack.twins.microsoft.twin import MicrosoftTwin

FORM = 1  # raise it with every change to what is kept


class KeptSeries(msgspec.Struct):
    """A schedule that a series once had, and until when."""

    version: int
    generation: int
    start: str
    lines: list[str]


class KeptEvent(msgspec.Struct):
    """An event; the exceptions of a series name it as their master."""

    key: str
    shared_key: str
    fields: Json
    start: str
    end: str
    zone: str
    lines: list[str]
    pattern: Json | None
    master: str | None
    original: str | None
    # Whether its series still knows it: one that was reset does not.
    is_exception: bool
    deleted: dict[str, int]
    former: list[KeptSeries]
    generation: int
    moves: int
    number: int
    version: int
    created_at: datetime
    changed_at: datetime
    gone: bool


class KeptCalendar(msgspec.Struct):
    """A calendar, its events in the order of their changes."""

    id: str
    name: str
    owner: str
    time_zone: str
    default: bool
    roles: dict[str, str]
    events: list[KeptEvent]
    changes: dict[str, int]
    names: dict[str, str]
    occurrence_names: dict[str, tuple[str, int, str]]
    version: int
    sync_epoch: int


class MicrosoftMemory(Memory):
    """What a twin knows. Faults, behaviour and logs begin anew with a process."""

    accounts: list[AccountState]
    calendars: list[KeptCalendar]
    transactions: list[tuple[str, str, str]]
    number: int
    grants: list[Grant]
    access: KeptAccess
    subscriptions: list[Subscription]


def dump(twin: "MicrosoftTwin") -> bytes:
    """Return everything the twin knows."""
    store = twin.store
    with store.exclusive():
        return msgspec.json.encode(
            MicrosoftMemory(
                form=FORM,
                accounts=list(store.accounts.values()),
                calendars=[_calendar(one) for one in store.calendars.values()],
                transactions=[(*who, key) for who, key in store.transactions.items()],
                number=store.number,
                grants=twin.oauth.grants,
                access=twin.oauth.kept_access(),
                subscriptions=list(twin.subscriptions.by_id.values()),
            )
        )


def load(twin: "MicrosoftTwin", document: bytes) -> None:
    """Make a fresh twin know what another one knew; tokens and cursors live on.

    Raises:
        Unreadable: nothing was taken over.
    """
    memory = remembered(document, MicrosoftMemory, form=FORM)
    store = twin.store
    with store.exclusive():
        for account in memory.accounts:
            store.accounts[account.email] = account
        for kept in memory.calendars:
            store.calendars[kept.id] = _restored(kept)
        store.transactions.update(
            {(email, sent): key for email, sent, key in memory.transactions}
        )
        store.number = memory.number
        twin.oauth.restore(memory.grants, memory.access)
        for subscription in memory.subscriptions:
            twin.subscriptions.by_id[subscription.id] = subscription


def _calendar(calendar: CalendarState) -> KeptCalendar:
    return KeptCalendar(
        id=calendar.id,
        name=calendar.name,
        owner=calendar.owner,
        time_zone=calendar.time_zone,
        default=calendar.default,
        roles=calendar.roles,
        events=[_event(record) for record in calendar.records.values()],
        changes=calendar.changes,
        names=calendar.names,
        occurrence_names={
            name: (key, generation, written(original))
            for name, (key, generation, original) in calendar.occurrence_names.items()
        },
        version=calendar.version,
        sync_epoch=calendar.sync_epoch,
    )


def _event(record: EventRecord) -> KeptEvent:
    master, original = record.master, record.original
    return KeptEvent(
        key=record.key,
        shared_key=record.shared_key,
        fields=record.fields,
        start=written(record.start),
        end=written(record.end),
        zone=record.zone,
        lines=record.lines,
        pattern=record.pattern,
        master=master.key if master else None,
        original=written(original) if original else None,
        is_exception=bool(
            master and original and master.exceptions.get(original) is record
        ),
        deleted={written(when): version for when, version in record.deleted.items()},
        former=[
            KeptSeries(version, generation, written(series.start), series.lines)
            for version, generation, series in record.former
        ],
        generation=record.generation,
        moves=record.moves,
        number=record.number,
        version=record.version,
        created_at=record.created_at,
        changed_at=record.changed_at,
        gone=record.gone,
    )


def _restored(kept: KeptCalendar) -> CalendarState:
    records = {event.key: _record(event) for event in kept.events}
    for event in kept.events:
        record = records[event.key]
        if event.master is None or record.original is None:
            continue
        record.master = records[event.master]
        if event.is_exception:
            record.master.exceptions[record.original] = record
    return CalendarState(
        id=kept.id,
        name=kept.name,
        owner=kept.owner,
        time_zone=kept.time_zone,
        default=kept.default,
        roles=kept.roles,
        records=records,
        changes=kept.changes,
        names=kept.names,
        occurrence_names={
            name: (key, generation, read(original))
            for name, (key, generation, original) in kept.occurrence_names.items()
        },
        version=kept.version,
        sync_epoch=kept.sync_epoch,
    )


def _record(kept: KeptEvent) -> EventRecord:
    start = read(kept.start)
    return EventRecord(
        fields=kept.fields,
        start=start,
        end=read(kept.end),
        zone=kept.zone,
        key=kept.key,
        shared_key=kept.shared_key,
        lines=kept.lines,
        pattern=kept.pattern,
        original=read(kept.original) if kept.original else None,
        deleted={read(when): version for when, version in kept.deleted.items()},
        former=[
            (old.version, old.generation, Series(read(old.start), old.lines))
            for old in kept.former
        ],
        series=Series(start, kept.lines) if kept.lines else None,
        generation=kept.generation,
        moves=kept.moves,
        number=kept.number,
        version=kept.version,
        created_at=kept.created_at,
        changed_at=kept.changed_at,
        gone=kept.gone,
    )
