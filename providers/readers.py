"""Which adapter understands the stored deliveries of which provider.

Apart from the receivers, which only verify them: what they mean is read by the worker.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from providers.bookings import Booking
from providers.calcom import bookings as calcom
from providers.calendly import bookings as calendly
from providers.model import Malformed, Provider

BookingReader: TypeAlias = Callable[[str | bytes], list[Booking] | Malformed]

BOOKING_READERS: Mapping[Provider, BookingReader] = {
    Provider.CALENDLY: calendly.read_delivery,
    Provider.CALCOM: calcom.read_delivery,
}
