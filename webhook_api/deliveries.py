"""A delivery on its way into the database, and what can become of it."""

from datetime import datetime
from enum import StrEnum

import msgspec

from providers.model import Notification


class Delivery(msgspec.Struct, frozen=True):
    """A verified notification, and when it came."""

    notification: Notification
    received_at: datetime


class Outcome(StrEnum):
    """What became of it: only what is accepted is stored for certain.

    UNAVAILABLE and LATE may be stored all the same, when the commit was made and its
    news was lost. They are sent again, and a delivery may be stored twice.
    """

    ACCEPTED = "accepted"
    IGNORED = "ignored"  # its channel is no longer ours: nothing is stored
    UNSTORABLE = "unstorable"  # the database refuses this one, whatever we do
    UNAVAILABLE = "unavailable"
    LATE = "late"
