"""What the real Google does now one way, now another: here each is a switch."""

from typing import Literal

import msgspec


class Behaviour(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Switches of a twin. They may be turned at any time, also over HTTP."""

    hello_before_answer: bool = False
    """Send `sync` before the watch call has returned."""

    exceptions_on_retime: Literal["keep", "reset"] = "keep"
    """What a new time of a series does to its changed and cancelled occurrences."""

    late_etag_s: float | None = None
    """Touch an event's etag once more, so much later, as Google's own servers do."""

    empty_pages: bool = False
    """Put an empty page with a next page token before every page."""

    exceptions_first: bool = False
    """List changed occurrences before the series they belong to."""

    full_tombstones: bool = False
    """Tell of a deletion with all that the event said, not with its id alone."""

    linger_after_stop_s: float = 1.0
    """How long a stopped channel goes on sending."""

    longest_channel_s: int = 604_800
    """A channel asked to live longer gets this much."""

    loopback_http: bool = True
    """Take http addresses on this machine; the real Google takes none."""

    retry_first_s: float = 1.0
    """Pause before the first retry of a push; it doubles each time."""

    retry_limit: int = 6
    """How often a push is retried; the real number is not published."""

    retry_refused: bool = False
    """Retry also where no answer came at all; undocumented, so off."""

    push_timeout_s: float = 10.0
    """How long a push waits for its answer."""

    sync_token_life_s: int = 21 * 86_400
    """An older sync token is answered 410."""

    tombstone_life_s: int = 35 * 86_400
    """A deletion older than this is forgotten, though its id stays used."""

    requests_per_minute: int | None = None
    """Quota of the whole project; Google's is 10,000. None means no limit."""

    user_requests_per_minute: int | None = None
    """Quota of one user; Google's is 600. None means no limit."""

    quota_retry_after_s: float | None = None
    """Whether answers over quota carry Retry-After."""


def published_quota() -> Behaviour:
    """Return a behaviour with the quotas that Google publishes."""
    return Behaviour(requests_per_minute=10_000, user_requests_per_minute=600)
