"""What the real Cal.com does in one version or another: here each is a switch."""

from typing import Literal

from local_stack.twins.booking_twin import BookingBehaviour


class Behaviour(BookingBehaviour, kw_only=True, forbid_unknown_fields=True):
    """Switches of a twin. They may be turned at any time, also over HTTP."""

    row_lags_s: float = 5.0
    """How long a row shows what it was before the webhook that left ahead of it."""

    flat_meetings: bool = True
    """Tell MEETING_STARTED and MEETING_ENDED without an envelope; newer ones nest."""

    partial: bool = False
    """Tell of a booking that was told of before only what changed."""

    reschedule_keeps_uid: bool = False
    """Move a booking in place, as older payloads have it."""

    seat_id_on_first_seat: bool = True
    """Whether the first seat of a booking is told with its id."""

    version_header: bool = True
    """Whether deliveries tell their version; older senders do not."""

    webhook_ids: Literal["number", "text"] = "text"
    """What the API calls a webhook by: schema and database differ."""

    requests_per_minute: int | None = None
    """Quota of one key; Cal.com's is 120. None means no limit."""
