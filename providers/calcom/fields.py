"""The fields of a Cal.com booking, each from wherever one of its forms keeps it."""

from typing import Any, Final, TypedDict

import msgspec

from providers.bookings import Answer, CalendarReference, Cancellation
from providers.calcom import resources
from providers.reading import text, web_address

# Asked on every booking page; what they say is a field of its own, or of no use.
STANDARD_QUESTIONS: Final = frozenset({
    "name",
    "email",
    "location",
    "title",
    "notes",
    "guests",
    "rescheduleReason",
    "attendeePhoneNumber",
    "smsReminderNumber",
})  # fmt: skip
LINK_IN_METADATA: Final = "videoCallUrl"


class PersonFields(TypedDict):
    """What a booking tells of who booked."""

    attendee_name: str | None
    attendee_email: str | None
    attendee_phone: str | None
    attendee_time_zone: str | None


def person_fields(
    person: resources.Person | None, phone_number: str | None
) -> PersonFields:
    """Return who booked; None where nobody in particular is meant."""
    known = person or resources.Person()
    return PersonFields(
        attendee_name=name(known),
        attendee_email=text(known.email),
        attendee_phone=phone_number if person else None,
        attendee_time_zone=text(known.time_zone),
    )


def name(person: resources.Person) -> str | None:
    """Return a person's name, however it is told."""
    return text(person.name) or text(
        f"{person.first_name or ''} {person.last_name or ''}"
    )


def phone(payload: resources.Payload, booker: resources.Person) -> str | None:
    """Return where the booker can be called."""
    answered = (payload.responses or {}).get("attendeePhoneNumber")
    value = answered.get("value") if isinstance(answered, dict) else None
    return text(booker.phone_number) or text(value) or text(payload.sms_reminder_number)


def guests(attendees: list[resources.Person] | None) -> list[str] | None:
    """Return everybody but the booker, who comes first."""
    if attendees is None:
        return None
    return [person.email for person in attendees[1:] if text(person.email)]  # type: ignore[misc]


def place(location: str | dict[str, Any] | None) -> str | None:
    """Return where to meet as words; the name of an integration is none."""
    said = _location(location)
    return None if said is None or said.startswith("integrations:") else said


def link(
    location: str | dict[str, Any] | None,
    told: dict[str, Any] | None,
    video: resources.VideoCall | None,
) -> str | None:
    """Return where to meet online."""
    return (
        web_address((told or {}).get(LINK_IN_METADATA))
        or web_address(video.url if video else None)
        or web_address(_location(location))
    )


def _location(location: str | dict[str, Any] | None) -> str | None:
    if isinstance(location, dict):
        return text(location.get("optionValue")) or text(location.get("value"))
    return text(location)


def answers(payload: resources.Payload) -> list[Answer] | None:
    """Return what the page's owner asked, and what was answered."""
    asked = payload.user_fields_responses or payload.responses
    if asked is None:
        return custom_answers(payload.custom_inputs)
    return [
        Answer(_question(slug, told), _answer(told.get("value")), slug)
        for slug, told in asked.items()
        if slug not in STANDARD_QUESTIONS and isinstance(told, dict)
    ] or custom_answers(payload.custom_inputs)


def custom_answers(told: dict[str, Any] | None) -> list[Answer] | None:
    """Return answers that are told by name alone."""
    if told is None:
        return None
    return [
        Answer(question, _answer(value), question)
        for question, value in told.items()
        if question not in STANDARD_QUESTIONS
    ]


def _question(slug: str, told: dict[str, Any]) -> str:
    return text(told.get("label")) or slug


def _answer(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(_answer(one) for one in value)
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def metadata(told: dict[str, Any] | None) -> dict[str, str] | None:
    """Return the business's own: which key means what is for a mapping to say."""
    if told is None:
        return None
    return {
        key: _answer(value)
        for key, value in told.items()
        if key != LINK_IN_METADATA and value is not None
    }


def cancellation(
    reason: str | None, by: str | None, host_email: str | None
) -> Cancellation | None:
    """Return why and by whom, where any of it is told."""
    who = text(by)
    if who is None and text(reason) is None:
        return None
    if who is None or host_email is None:
        return Cancellation(text(reason), who)
    is_host = who.lower() == host_email.strip().lower()
    return Cancellation(text(reason), who, "host" if is_host else "invitee")


def references(
    told: list[resources.Reference] | None,
) -> list[CalendarReference] | None:
    """Return the ids in the host's calendars; meetings' rooms are references too."""
    if told is None:
        return None
    return [
        CalendarReference(one.type, uid, text(one.external_calendar_id))
        for one in told
        if one.type.endswith("_calendar") and (uid := text(one.event_uid or one.uid))
    ]


def series_of(payload: resources.Payload) -> str | None:
    """Return the series a booking belongs to; webhooks mostly hide it."""
    known = (payload.existing_recurring_event or {}).get("recurringEventId")
    return text(payload.recurring_event_id) or text(known)


def is_one_of_series(payload: resources.Payload) -> bool:
    """Tell whether a booking is one of several that were booked at once."""
    return bool(payload.recurring_event or series_of(payload))
