"""Time zones by their Windows names, as Exchange keeps them."""

from functools import lru_cache
from zoneinfo import ZoneInfo

from icalendar.timezone.windows_to_olson import WINDOWS_TO_OLSON

from local_stack.twins.microsoft.errors import ApiError
from local_stack.twins.moments import known_zone

OLSON_TO_WINDOWS = {olson: name for name, olson in WINDOWS_TO_OLSON.items()}
# Zones of which CLDR's table names a neighbour that keeps the same time.
NEIGHBOURS = {
    "Europe/Rome": "W. Europe Standard Time",
    "Europe/Madrid": "Romance Standard Time",
    "Europe/Vienna": "W. Europe Standard Time",
    "Europe/Zurich": "W. Europe Standard Time",
    "Europe/Amsterdam": "W. Europe Standard Time",
    "UTC": "UTC",
}


@lru_cache(maxsize=1024)
def zone_named(name: str) -> ZoneInfo:
    """Return a zone by its Windows or its IANA name."""
    try:
        return known_zone(WINDOWS_TO_OLSON.get(name, name))
    except ValueError:
        raise ApiError(
            400,
            "TimeZoneNotSupportedException",
            f"A valid TimeZone value must be specified. The following TimeZone value "
            f"is not supported: '{name[:80]}'.",
        ) from None


def windows_name(iana: str) -> str:
    """Return what Exchange calls a zone; one that it has no name for keeps its own."""
    return NEIGHBOURS.get(iana) or OLSON_TO_WINDOWS.get(iana, iana)
