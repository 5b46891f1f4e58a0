"""What the API and the webhooks show of it, in Calendly's spelling."""

from datetime import UTC, datetime
from typing import Any

from local_stack.twins.calendly.behaviour import Behaviour
from local_stack.twins.calendly.state import Event, Invitee, Store, Subscription, User

UNFINISHED = frozenset({"initiated", "processing"})
TRACKING = (
    "utm_campaign",
    "utm_source",
    "utm_medium",
    "utm_content",
    "utm_term",
    "salesforce_uuid",
)


def moment(at: datetime) -> str:
    """Write a time as Calendly does: UTC, microseconds, Z."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def user_body(user: User) -> dict[str, Any]:
    """Show an account."""
    return {
        "uri": user.uri,
        "name": user.name,
        "slug": user.email.partition("@")[0],
        "email": user.email,
        "scheduling_url": f"https://calendly.com/{user.email.partition('@')[0]}",
        "timezone": user.time_zone,
        "avatar_url": None,
        "current_organization": user.organization,
    }


def invitee_body(invitee: Invitee) -> dict[str, Any]:
    """Show an invitee as the API does: without its event."""
    first, _, last = invitee.name.partition(" ")
    body: dict[str, Any] = {
        "uri": invitee.uri,
        "event": invitee.uri.partition("/invitees/")[0],
        "email": invitee.email,
        "name": invitee.name,
        "first_name": first,
        "last_name": last or None,
        "status": "active" if invitee.cancellation is None else "canceled",
        "timezone": invitee.time_zone,
        "created_at": moment(invitee.created_at),
        "updated_at": moment(invitee.updated_at),
        "questions_and_answers": [
            {"question": question, "answer": answer, "position": position}
            for position, (question, answer) in enumerate(invitee.answers.items())
        ],
        "tracking": {name: invitee.tracking.get(name) for name in TRACKING},
        "text_reminder_number": invitee.phone,
        "rescheduled": invitee.rescheduled,
        "old_invitee": invitee.old_invitee,
        "new_invitee": invitee.new_invitee,
        "cancel_url": f"https://calendly.com/cancellations/{invitee.id}",
        "reschedule_url": f"https://calendly.com/reschedulings/{invitee.id}",
        "routing_form_submission": None,
        "payment": None,
        "no_show": invitee.no_show,
        "reconfirmation": None,
        "scheduling_method": invitee.scheduling_method,
        "invitee_scheduled_by": None,
    }
    if invitee.cancellation is not None:
        body["cancellation"] = invitee.cancellation
    return body


class EventBodies:
    """Shows events, which know how full they are."""

    def __init__(self, store: Store, behaviour: Behaviour) -> None:
        self._store = store
        self._behaviour = behaviour

    def event(self, event: Event) -> dict[str, Any]:
        """Show an event as the API does."""
        body = self.in_webhook(event)
        body["calendar_event"] = event.calendar_event
        return body

    def in_webhook(self, event: Event) -> dict[str, Any]:
        """Show an event as deliveries do."""
        host = self._store.user(event.host)
        known = self._store.invitees_of(event)
        seats = self._store.known.types[event.type_id].seats
        body: dict[str, Any] = {
            "uri": event.uri,
            "name": event.name,
            "meeting_notes_plain": None,
            "meeting_notes_html": None,
            "status": "active" if event.cancellation is None else "canceled",
            "start_time": moment(event.starts_at),
            "end_time": moment(event.ends_at),
            "event_type": f"https://api.calendly.com/event_types/{event.type_id}",
            "location": event.location,
            "invitees_counter": {
                "total": len(known),
                "active": sum(1 for one in known if one.cancellation is None),
                "limit": seats,
            },
            "created_at": moment(event.created_at),
            "updated_at": moment(event.updated_at),
            "event_memberships": [
                {"user": host.uri, "user_email": host.email, "user_name": host.name}
            ],
            "event_guests": [],
        }
        if self._behaviour.calendar_events_in_webhooks:
            body["calendar_event"] = event.calendar_event
        if event.cancellation is not None:
            body["cancellation"] = event.cancellation
        return body


def subscription_body(subscription: Subscription) -> dict[str, Any]:
    """Show a webhook; its signing key stays where it is."""
    retrying = subscription.retry_started_at
    return {
        "uri": subscription.uri,
        "callback_url": subscription.url,
        "created_at": moment(subscription.created_at),
        "updated_at": moment(subscription.updated_at),
        "retry_started_at": moment(retrying) if retrying else None,
        "state": "active" if subscription.is_active else "disabled",
        "events": subscription.events,
        "scope": subscription.scope,
        "organization": subscription.organization,
        "user": subscription.user,
        "group": None,
        "creator": subscription.creator,
    }
