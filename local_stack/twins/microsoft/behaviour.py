"""What the real Graph does now one way, now another: here each is a switch."""

from typing import Literal

import msgspec


class Behaviour(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Switches of a twin. They may be turned at any time, also over HTTP.

    Where sources disagree, the way that is harder on a client is the one to begin with.
    """

    delta_lag_s: float = 0.0
    """How long a delta does not show what was written, notified or not."""

    occurrence_tombstones: bool = False
    """Say @removed of occurrences that are gone; else they are only left out."""

    out_of_window_removed: bool = True
    """Say @removed of everything that changed outside of the window."""

    exceptions_on_retime: Literal["keep", "reset"] = "reset"
    """What a new time of a series does to its changed and deleted occurrences."""

    empty_pages: bool = False
    """Put an empty page with a nextLink before every page of a delta."""

    repeat_items: bool = False
    """Send the first item of a delta once more at its end."""

    delta_page_size: int = 50
    """Items on a page of a delta, unless odata.maxpagesize asks for fewer."""

    instances_page_size: int = 10
    """Items on a page of instances, whatever is asked for."""

    select_on_delta: Literal["refuse", "ignore"] = "refuse"
    """What $select and the like do to a delta; neither does what they say."""

    lost_state: Literal["410", "400"] = "410"
    """The status of an answer to a delta token whose state is gone."""

    delta_token_life_s: int = 30 * 86_400
    """An older delta token has lost its state; the real life is not fixed."""

    if_match: Literal["412", "409", "ignore"] = "412"
    """What a stale If-Match does; Exchange's own way is not documented."""

    repeated_transaction: Literal["first", "409"] = "first"
    """What a create with a transactionId already used answers."""

    duplicate_subscriptions: Literal["409", "accept"] = "409"
    """What a second subscription of the same app to the same thing answers."""

    longest_subscription_min: int = 10_080
    """Longer ones are refused; clouds that hold 4,230 are still about."""

    shortest_subscription_min: int = 45
    """Shorter ones are made to live that long."""

    loopback_http: bool = True
    """Take http addresses on this machine; the real Graph takes none."""

    handshake_limit_s: float = 10.0
    """How long a validation may take."""

    notifications_per_change: int = 2
    """How often one save is told of; Outlook's own saves often are 2 or 3."""

    batch_s: float = 0.0
    """How long items for one address are gathered into one request."""

    mix_subscriptions: bool = False
    """Put items into one request whose addresses differ in their queries only."""

    answer_limit_s: float = 3.0
    """A slower answer counts as slow and as none: it is sent again."""

    retry_limit_s: float = 10.0
    """The same for what is sent again."""

    retry_first_s: float = 1.0
    """Pause before the first retry; it doubles each time."""

    retry_limit: int = 8
    """How often a request is sent again; Graph goes on for 4 hours."""

    judged_after: int = 100
    """Answers of a host before it is judged by its slow ones."""

    slow_share: float = 0.10
    """Above this share of answers beyond 3 s a host is slow."""

    drop_share: float = 0.15
    """Above this share of answers beyond 10 s a host's items are discarded."""

    slow_delay_s: float = 600.0
    """How late new items go to a slow host; once the docs said 10 s."""

    drop_span_s: float = 600.0
    """How long a host stays judged."""

    mailbox_concurrency: int | None = None
    """Calls under way for one app and mailbox; Graph's limit is 4."""

    requests_per_ten_minutes: int | None = None
    """Calls of one app and mailbox; Graph's limit is 10,000."""

    throttle_retry_after_s: float | None = 5.0
    """What Retry-After says when throttled; None leaves it out."""


def published_limits() -> Behaviour:
    """Return a behaviour with the limits that Microsoft publishes."""
    return Behaviour(mailbox_concurrency=4, requests_per_ten_minutes=10_000)
