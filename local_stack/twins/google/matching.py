"""What the filters of a list call look at in one event."""

from datetime import UTC, datetime

import msgspec

from local_stack.twins.google.state import Json


def original_of(encoded: bytes) -> Json:
    """Return the original start of an occurrence."""
    body: Json = msgspec.json.decode(encoded)
    original: Json = body["originalStartTime"]
    return original


def stands_for(encoded: bytes, wanted: str | None) -> bool:
    """Tell whether an occurrence is the one whose original start is wanted."""
    if wanted is None:
        return True
    original = original_of(encoded)
    if "date" in original:
        return bool(original["date"] == wanted[:10])
    try:
        asked = datetime.fromisoformat(wanted.replace(" ", "+"))
    except ValueError:
        return False
    if asked.tzinfo is None:
        asked = asked.replace(tzinfo=UTC)
    return datetime.fromisoformat(original["dateTime"]) == asked


def mentions(body: Json, text: str) -> bool:
    """Tell whether an event has a text where `q` looks for it."""
    people = [*body.get("attendees", ()), body.get("organizer", {})]
    texts = [body.get(key, "") for key in ("summary", "description", "location")]
    texts += [p.get(key, "") for p in people for key in ("email", "displayName")]
    return text.lower() in "\n".join(map(str, texts)).lower()


def has_property(body: Json, kind: str, wanted: str) -> bool:
    """Tell whether an extended property has a value, given as `key=value`."""
    key, _, value = wanted.partition("=")
    properties = body.get("extendedProperties", {}).get(kind, {})
    return bool(properties.get(key) == value)
