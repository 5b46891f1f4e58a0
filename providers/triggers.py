"""What a booking provider says that happened, as it is kept beside a delivery."""

import re
from collections.abc import Collection

NAME = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
IGNORED = "ignored"


def kept_headers(trigger: str, *, known: Collection[str]) -> dict[str, str]:
    """Return the trigger; one that is no booking is kept, and said to be ignored."""
    if trigger in known:
        return {"trigger": trigger}
    named = trigger if NAME.fullmatch(trigger) else "unreadable"
    return {"trigger": named, IGNORED: "not a trigger of bookings"}
