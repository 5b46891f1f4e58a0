"""The parameters of list and instances: read, checked, and bound to their tokens."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

import msgspec

from local_stack.twins.google.errors import ApiError, invalid
from local_stack.twins.google.times import read_bound

DEFAULT_PAGE = 250
LONGEST_PAGE = 2500

NEVER_WITH_SYNC_TOKEN = (
    "iCalUID",
    "orderBy",
    "privateExtendedProperty",
    "q",
    "sharedExtendedProperty",
    "timeMin",
    "timeMax",
    "updatedMin",
)
WITHOUT_SYNC_TOKEN = frozenset(NEVER_WITH_SYNC_TOKEN) - {"timeMin", "timeMax"}
"""Given in a first request, these make it end without a sync token."""

BOUND_TO_TOKEN = (
    "singleEvents",
    "showDeleted",
    "eventTypes",
    "maxAttendees",
    "showHiddenInvitations",
    "timeZone",
)

Params: TypeAlias = Mapping[str, list[str]]


@dataclass(frozen=True)
class Query:
    """What a list call asks for."""

    params: Params
    single_events: bool
    show_deleted: bool
    order_by: str | None
    time_min: datetime | None
    time_max: datetime | None
    updated_min: datetime | None
    event_types: frozenset[str]
    max_results: int
    max_attendees: int | None
    time_zone: str | None
    page_token: str | None
    sync_token: str | None

    @property
    def fingerprint(self) -> str:
        """Return what must be the same again wherever a token of this is used."""
        bound = {key: sorted(self.params.get(key, ())) for key in BOUND_TO_TOKEN}
        return hashlib.blake2b(
            msgspec.json.encode(bound, order="sorted"), digest_size=6
        ).hexdigest()

    @property
    def whole(self) -> str:
        """Return what must be the same again on every page of one round."""
        asked = {k: v for k, v in self.params.items() if k not in PAGE_ONLY}
        return hashlib.blake2b(
            msgspec.json.encode(asked, order="sorted"), digest_size=6
        ).hexdigest()

    @property
    def filters(self) -> bool:
        """Tell whether anything is asked for that not every event fulfils."""
        return any(self.params.get(key) for key in FILTERS)

    @property
    def yields_sync_token(self) -> bool:
        return not any(self.params.get(key) for key in WITHOUT_SYNC_TOKEN)

    def first(self, name: str) -> str | None:
        return next(iter(self.params.get(name, ())), None)


FILTERS = frozenset(NEVER_WITH_SYNC_TOKEN) - {"orderBy"} | {"eventTypes"}

PAGE_ONLY = frozenset(
    {"pageToken", "maxResults", "alt", "prettyPrint", "fields", "key"}
)


def read_query(params: Params) -> Query:
    """Read the parameters of events.list or events.instances.

    Raises:
        ApiError: 400 where Google refuses them.
    """

    def first(name: str) -> str | None:
        return next(iter(params.get(name, ())), None)

    query = Query(
        params=params,
        single_events=_flag(first("singleEvents")),
        show_deleted=_flag(first("showDeleted")),
        order_by=first("orderBy"),
        time_min=read_bound(first("timeMin"), "timeMin"),
        time_max=read_bound(first("timeMax"), "timeMax"),
        updated_min=read_bound(first("updatedMin"), "updatedMin"),
        event_types=frozenset(params.get("eventTypes", ())),
        max_results=min(LONGEST_PAGE, _number(first("maxResults")) or DEFAULT_PAGE),
        max_attendees=_number(first("maxAttendees")),
        time_zone=first("timeZone"),
        page_token=first("pageToken"),
        sync_token=first("syncToken"),
    )
    _check(query)
    return query


def _check(query: Query) -> None:
    if query.order_by not in {None, "startTime", "updated"}:
        raise invalid("Invalid value for: orderBy", "orderBy")
    if query.order_by == "startTime" and not query.single_events:
        raise ApiError(
            400,
            "invalid",
            "The requested ordering is not available for the particular query.",
            location="orderBy",
        )
    if query.time_min and query.time_max and query.time_min >= query.time_max:
        raise ApiError(
            400,
            "timeRangeEmpty",
            "The specified time range is empty.",
            domain="calendar",
            location="timeMax",
        )
    if query.sync_token is not None:
        _check_beside_sync_token(query)


def _check_beside_sync_token(query: Query) -> None:
    for name in NEVER_WITH_SYNC_TOKEN:
        if query.params.get(name):
            raise ApiError(
                400,
                "badRequest",
                f"Sync token cannot be used together with the parameter {name}.",
                location=name,
            )
    if query.first("showDeleted") == "false":
        raise ApiError(
            400,
            "badRequest",
            "showDeleted cannot be false when a sync token is used.",
            location="showDeleted",
        )


def _flag(text: str | None) -> bool:
    if text is None:
        return False
    if text.lower() not in {"true", "false"}:
        raise invalid(f"Invalid boolean value: '{text[:20]}'.")
    return text.lower() == "true"


def _number(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise invalid(f"Invalid integer value: '{text[:20]}'.")
    return int(text)
