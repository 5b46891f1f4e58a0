"""A page of events as Google sends it: 2,500 of them are 3 MB."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

FIRST_START = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
WORDS = (
    "Please bring the signed form and the insurance card. The entrance is in the "
    "courtyard; ring twice. Parking is behind the house, the code of the gate is sent "
    "by text message an hour before. Call us if you are late by more than ten minutes. "
)
CREATED = "2026-10-02T08:15:30.000Z"
UPDATED = "2026-11-20T15:42:11.482Z"


def page(count: int, *, cursor: str = "cursor") -> bytes:
    """Return so many single events, without blanks as Google's compact answers."""
    return msgspec.json.encode(
        {
            "kind": "calendar#events",
            "etag": '"p33kd1l5m6c8ug0o"',
            "summary": "Practice",
            "description": "",
            "updated": UPDATED,
            "timeZone": "Europe/Berlin",
            "accessRole": "owner",
            "defaultReminders": [{"method": "popup", "minutes": 10}],
            "nextSyncToken": cursor,
            "items": [event(number) for number in range(count)],
        }
    )


def event(number: int) -> dict[str, Any]:
    """Return one event, about 1.2 KB, always the same for the same number."""
    chance = random.Random(number)  # noqa: S311
    start = FIRST_START + timedelta(minutes=30 * number % (150 * 24 * 60))
    event_id = f"{chance.getrandbits(128):026x}"
    guest = f"guest{number}@bench.example"
    return {
        "kind": "calendar#event",
        "etag": f'"{chance.getrandbits(52)}"',
        "id": event_id,
        "status": "confirmed",
        "htmlLink": f"https://www.google.com/calendar/event?eid={event_id}xxxxxxxx",
        "created": CREATED,
        "updated": UPDATED,
        "summary": f"Appointment {number}",
        "description": WORDS + f"Reference {chance.getrandbits(64):x}.",
        "location": "Hauptstraße 12, 10827 Berlin, Germany",
        "creator": {"email": "owner@bench.example", "self": True},
        "organizer": {"email": "owner@bench.example", "self": True},
        "start": {"dateTime": start.isoformat(), "timeZone": "Europe/Berlin"},
        "end": {
            "dateTime": (start + timedelta(minutes=30)).isoformat(),
            "timeZone": "Europe/Berlin",
        },
        "iCalUID": f"{event_id}@google.com",
        "sequence": 0,
        "attendees": [
            {
                "email": "owner@bench.example",
                "organizer": True,
                "self": True,
                "responseStatus": "accepted",
            },
            {
                "email": guest,
                "displayName": f"Guest {number}",
                "responseStatus": "needsAction",
            },
        ],
        "guestsCanInviteOthers": False,
        "reminders": {"useDefault": True},
        "eventType": "default",
    }
