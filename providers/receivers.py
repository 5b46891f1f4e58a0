"""Which adapter reads the deliveries of which provider.

Apart from the clients, so that the receiver cannot make a call before it has answered.
"""

from datetime import timedelta

from providers.calcom.receiver import CalcomReceiver
from providers.calendly.receiver import CalendlyReceiver
from providers.google.adopted import AdoptedChannels
from providers.google.receiver import GoogleReceiver
from providers.microsoft.receiver import MicrosoftReceiver
from providers.model import Provider
from providers.protocols import BookingReceiver, Receiver


def calendar_receivers(*, adopted: AdoptedChannels) -> dict[Provider, Receiver]:
    """Make the adapters of calendars; what is adopted may change meanwhile."""
    return {
        Provider.GOOGLE: GoogleReceiver(adopted),
        Provider.MICROSOFT: MicrosoftReceiver(),
    }


def booking_receivers(
    *,
    calendly_key: str | None,
    calendly_tolerance: timedelta,
    calcom_secret: str | None,
) -> dict[Provider, BookingReceiver]:
    """Make the adapters that know a secret beside those that are derived."""
    return {
        Provider.CALENDLY: CalendlyReceiver(calendly_key, tolerance=calendly_tolerance),
        Provider.CALCOM: CalcomReceiver(calcom_secret),
    }
