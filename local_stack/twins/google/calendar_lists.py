"""Calendars and the list of them that every account keeps."""

import msgspec

from local_stack.twins.google.errors import invalid, sync_token_gone
from local_stack.twins.google.queries import Params
from local_stack.twins.google.state import (
    ROLE_ORDER,
    AccountState,
    CalendarState,
    Json,
    Store,
)
from local_stack.twins.google.tokens import (
    PageToken,
    SyncToken,
    read_page_token,
    read_sync_token,
    write_token,
)

DEFAULT_PAGE = 100
LONGEST_PAGE = 250


def calendar(state: CalendarState) -> Json:
    """Return a calendar as `calendars.get` shows it."""
    shown = {
        "kind": "calendar#calendar",
        "etag": f'"c{state.acl_epoch}"',
        "id": state.id,
        "summary": state.summary,
        "timeZone": state.time_zone,
        "conferenceProperties": {"allowedConferenceSolutionTypes": ["hangoutsMeet"]},
    }
    if state.description is not None:
        shown["description"] = state.description
    return shown


def entry(account: AccountState, state: CalendarState) -> Json:
    """Return a calendar as an account's list shows it."""
    shown = {
        **calendar(state),
        "kind": "calendar#calendarListEntry",
        "etag": f'"l{account.listed.get(state.id, 0)}"',
        "accessRole": state.role_of(account.email),
        "selected": True,
        "defaultReminders": [],
    }
    if state.id == account.email:
        shown["primary"] = True
    elif not state.generated:
        shown["dataOwner"] = state.owner
    return shown


def page(store: Store, account: AccountState, params: Params) -> bytes:
    """Return one page of an account's list, or what changed in it."""

    def first(name: str) -> str | None:
        return next(iter(params.get(name, ())), None)

    since = _version_of(account, first("syncToken"))
    if since is not None and first("minAccessRole"):
        raise invalid("Sync token cannot be used with minAccessRole.", "minAccessRole")
    least = ROLE_ORDER.get(first("minAccessRole") or "none", 0)
    wants_deleted = since is not None or first("showDeleted") == "true"
    entries = [
        shown
        for calendar_id, version in account.listed.items()
        if version > (since or 0)
        for shown in _entries(store, account, calendar_id, wants_deleted, least)
    ]
    size = min(LONGEST_PAGE, int(first("maxResults") or DEFAULT_PAGE))
    token = first("pageToken")
    offset = read_page_token(token).offset if token else 0
    answer: Json = {
        "kind": "calendar#calendarList",
        "etag": f'"l{account.list_version}"',
        "items": entries[offset : offset + size],
    }
    if offset + size < len(entries):
        answer["nextPageToken"] = write_token(PageToken("list", offset + size, ""))
    else:
        now = store.clock.now()
        answer["nextSyncToken"] = write_token(
            SyncToken(account.email, account.list_version, 0, "", now)
        )
    return msgspec.json.encode(answer)


def _version_of(account: AccountState, token: str | None) -> int | None:
    if token is None:
        return None
    read = read_sync_token(token)
    if read.calendar_id != account.email:
        raise sync_token_gone()
    return read.version


def _entries(
    store: Store,
    account: AccountState,
    calendar_id: str,
    wants_deleted: bool,
    least: int,
) -> list[Json]:
    if calendar_id in account.removed:
        gone = {"kind": "calendar#calendarListEntry", "id": calendar_id}
        return [{**gone, "deleted": True}] if wants_deleted else []
    state = store.calendars[calendar_id]
    if ROLE_ORDER.get(state.role_of(account.email), 0) < least:
        return []
    return [entry(account, state)]
