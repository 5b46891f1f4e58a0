"""What the real Calendly does, or may do: here each is a switch."""

from typing import Literal

from local_stack.twins.booking_twin import BookingBehaviour


class Behaviour(BookingBehaviour, kw_only=True, forbid_unknown_fields=True):
    """Switches of a twin. They may be turned at any time, also over HTTP."""

    reschedule_order: Literal["canceled_first", "created_first"] = "canceled_first"
    """Which half of a move is posted first; the real order is not promised."""

    reschedule_gap_s: float = 0.0
    """How much later the other half is posted."""

    repeat_signature_time: bool = True
    """Whether a retry repeats the first attempt's time; nobody says."""

    dates_each_attempt: bool = False
    """Whether a retry's `created_at` is its own; nobody says."""

    event_canceled_with_its_last_invitee: bool = True
    """Whether the event's own status follows; Calendly's sample says it does not."""

    unique_urls: Literal["per_owner", "anywhere"] = "per_owner"
    """How far it reaches that one URL is registered once."""

    links_come_later: bool = False
    """Tell a conference without its link, which a later read shows."""

    calendar_events_in_webhooks: bool = False
    """Whether deliveries tell the id in the host's calendar; the sample has none."""

    retry_first_s: float = 60.0
    """Pause before the first retry of a delivery; it doubles each time."""

    retry_most_s: float = 3600.0
    """The longest pause."""

    disable_after_s: int = 86_400
    """A subscription that has failed for so long is disabled, for good."""

    access_token_life_s: int = 7_200
    """How long an access token is good for."""

    requests_per_minute: int | None = None
    """Quota of one user; Calendly's is 500 on paid plans. None means no limit."""
