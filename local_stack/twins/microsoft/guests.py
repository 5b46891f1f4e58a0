"""Guests' copies: what the organizer's event looks like in other mailboxes.

A copy has ids of its own and shares the iCalUId. When the organizer cancels, it stays
as a cancelled event until its owner removes it.
"""

from local_stack.twins.microsoft.state import (
    CalendarState,
    EventRecord,
    Json,
    Store,
)
from local_stack.twins.microsoft.times import stamp
from local_stack.twins.moments import When
from local_stack.twins.series import Series

UNANSWERED: Json = {"response": "notResponded", "time": "0001-01-01T00:00:00Z"}
PERSONAL = frozenset({
    "responseStatus", "showAs", "sensitivity", "categories", "isReminderOn",
    "reminderMinutesBeforeStart", "isOrganizer", "isCancelled", "transactionId",
})  # fmt: skip


def send_to_guests(store: Store, calendar: CalendarState, record: EventRecord) -> None:
    """Bring every guest's copy up to what the organizer's event now says."""
    master = record.master or record
    if not master.fields.get("isOrganizer", True):
        return
    invited = _addresses(master)
    for email in store.accounts:
        if email == calendar.owner:
            continue
        home = store.default_calendar(email)
        copy = _copy_in(home, master)
        if email in invited and not master.gone:
            _send(store, home, master, copy)
        elif copy is not None and not copy.gone:
            _withdraw(store, home, copy)


def _addresses(record: EventRecord) -> set[str]:
    return {
        one["emailAddress"]["address"].lower()
        for one in record.fields.get("attendees", ())
    }


def _copy_in(home: CalendarState, master: EventRecord) -> EventRecord | None:
    copies = (
        record
        for record in home.records.values()
        if record.shared_key == master.key and record.master is None
    )
    return next(copies, None)


def _send(
    store: Store, home: CalendarState, master: EventRecord, copy: EventRecord | None
) -> None:
    if copy is not None and copy.gone and _answer(copy) == "declined":
        return
    fresh = copy is None or copy.gone
    if copy is None or copy.gone:
        copy = EventRecord({}, master.start, master.end, master.zone)
        copy.shared_key = master.key
    before = _state_of(copy)
    _take_over(copy, master)
    for original in [o for o in copy.exceptions if o not in master.exceptions]:
        copy.exceptions.pop(original).gone = True
    exceptions = [
        _exception(copy, original, theirs)
        for original, theirs in master.exceptions.items()
    ]
    if fresh or before != _state_of(copy):
        store.save(home, copy, "created" if fresh else "updated", quiet=True)
        for exception in exceptions:
            store.save(home, exception, quiet=True)


def _take_over(copy: EventRecord, master: EventRecord) -> None:
    own = {k: v for k, v in copy.fields.items() if k in PERSONAL}
    shared = {k: v for k, v in master.fields.items() if k not in PERSONAL}
    copy.fields = {"responseStatus": UNANSWERED, **shared, **own, "isOrganizer": False}
    retimed = (copy.start, copy.lines) != (master.start, master.lines)
    copy.start, copy.end, copy.zone = master.start, master.end, master.zone
    if retimed and copy.series is not None:
        copy.generation += 1
    copy.lines, copy.pattern = list(master.lines), master.pattern
    copy.series = Series(master.start, master.lines) if master.lines else None
    copy.deleted = dict(master.deleted)


def _exception(copy: EventRecord, original: When, theirs: EventRecord) -> EventRecord:
    mine = copy.exceptions.get(original)
    if mine is None:
        mine = EventRecord({}, theirs.start, theirs.end, theirs.zone)
        mine.master, mine.original = copy, original
        copy.exceptions[original] = mine
    mine.start, mine.end, mine.zone = theirs.start, theirs.end, theirs.zone
    own = {k: v for k, v in mine.fields.items() if k in PERSONAL}
    shared = {k: v for k, v in theirs.fields.items() if k not in PERSONAL}
    answer = copy.fields["responseStatus"]
    mine.fields = {"responseStatus": answer, **shared, **own, "isOrganizer": False}
    return mine


def _withdraw(store: Store, home: CalendarState, copy: EventRecord) -> None:
    if copy.fields.get("isCancelled"):
        return
    subject = f"Canceled: {copy.fields.get('subject', '')}"
    for one in [copy, *copy.exceptions.values()]:
        one.fields = {**one.fields, "isCancelled": True, "subject": subject}
    copy.fields["showAs"] = "free"
    copy.fields["responseStatus"] = {
        **copy.fields["responseStatus"],
        "time": stamp(store.clock.now()),
    }
    store.save(home, copy, quiet=True)


def _answer(copy: EventRecord) -> str:
    return str(copy.fields.get("responseStatus", {}).get("response"))


def _state_of(record: EventRecord) -> object:
    changed = {
        original: (one.start, one.end, dict(one.fields))
        for original, one in record.exceptions.items()
    }
    lines = list(record.lines)
    deleted = set(record.deleted)
    return (dict(record.fields), record.start, record.end, lines, deleted, changed)
