"""Sync tokens and page tokens: opaque to clients, checked when they come back."""

import base64
import binascii
from datetime import datetime

import msgspec

from local_stack.twins.google.errors import invalid, sync_token_gone


class SyncToken(msgspec.Struct, array_like=True):
    """Where a client stopped: good for one calendar and one set of parameters."""

    calendar_id: str
    version: int
    acl_epoch: int
    fingerprint: str
    issued_at: datetime
    # Bounds of the first request: they limit how far series are expanded in deltas.
    time_min: datetime | None = None
    time_max: datetime | None = None


class PageToken(msgspec.Struct, array_like=True):
    """The next page of a round that is under way."""

    round: str
    offset: int
    query: str
    after_empty: bool = False


def write_token(token: SyncToken | PageToken) -> str:
    """Make a token that nobody is tempted to read."""
    return base64.urlsafe_b64encode(msgspec.json.encode(token)).decode()


def read_sync_token(text: str) -> SyncToken:
    """Read a sync token; one that is none is answered as an expired one is."""
    try:
        raw = base64.urlsafe_b64decode(text.encode())
        return msgspec.json.decode(raw, type=SyncToken)
    except (binascii.Error, UnicodeError, msgspec.MsgspecError) as problem:
        raise sync_token_gone() from problem


def read_page_token(text: str) -> PageToken:
    """Read a page token."""
    try:
        raw = base64.urlsafe_b64decode(text.encode())
        return msgspec.json.decode(raw, type=PageToken)
    except (binascii.Error, UnicodeError, msgspec.MsgspecError) as problem:
        raise invalid("Invalid page token value.", "pageToken") from problem
