"""The operations of the Cal.com API v2, each a plain function of one call."""

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from local_stack.twins.calcom.state import (
    Attendee,
    Booking,
    Webhook,
    bad_request,
    new_key,
    not_found,
    refusal,
)
from local_stack.twins.rest import Answer, Call, Rest

if TYPE_CHECKING:
    from local_stack.twins.calcom.twin import CalcomTwin

PREFIX = "/v2"
VERSION = "2024-08-13"
TAKE = 100
TAKE_WEBHOOKS = 250


class Api:
    """What the API does, without HTTP."""

    def __init__(self, twin: "CalcomTwin") -> None:
        self._twin = twin
        self._store = twin.store

    def routes(self, rest: Rest) -> list[Route]:
        """Return every operation, below `/v2`."""
        one, hooks, hook = "/bookings/{uid}", "/webhooks", "/webhooks/{id}"
        table: tuple[tuple[str, str, str, Callable[[Call], Answer]], ...] = (
            ("me.get", "GET", "/me", self.me),
            ("bookings.list", "GET", "/bookings", self.list_bookings),
            ("bookings.create", "POST", "/bookings", self.book),
            ("bookings.get", "GET", one, self.get_booking),
            ("bookings.reschedule", "POST", f"{one}/reschedule", self.reschedule),
            ("bookings.cancel", "POST", f"{one}/cancel", self.cancel),
            ("bookings.confirm", "POST", f"{one}/confirm", self.confirm),
            ("bookings.decline", "POST", f"{one}/decline", self.decline),
            ("bookings.absent", "POST", f"{one}/mark-absent", self.mark_absent),
            ("bookings.references", "GET", f"{one}/references", self.references),
            ("webhooks.create", "POST", hooks, self.add_webhook),
            ("webhooks.list", "GET", hooks, self.list_webhooks),
            ("webhooks.get", "GET", hook, self.get_webhook),
            ("webhooks.update", "PATCH", hook, self.change_webhook),
            ("webhooks.delete", "DELETE", hook, self.delete_webhook),
        )
        return [
            rest.route(name, method, PREFIX + path, self._store.alone(work))
            for name, method, path, work in table
        ]

    def me(self, call: Call) -> Answer:
        user = self._store.known.users[call.who]
        return _good(
            {
                "id": user.id,
                "email": user.email,
                "username": user.email.partition("@")[0],
                "name": user.name,
                "timeZone": user.time_zone,
                "organizationId": None,
            }
        )

    def list_bookings(self, call: Call) -> Answer:
        _require_version(call)
        rows = [
            row
            for uid, booking in self._store.known.bookings.items()
            if booking.host == call.who and (row := self._store.shown(uid)) is not None
        ]
        after, before = _time(call, "afterUpdatedAt"), _time(call, "beforeUpdatedAt")
        found = [
            row
            for row in rows
            if (after is None or row.updated_at >= after)
            and (before is None or row.updated_at <= before)
        ]
        if "sortUpdatedAt" in call.query:
            is_down = call.query["sortUpdatedAt"] == "desc"
            found.sort(key=lambda row: row.updated_at, reverse=is_down)
        skip, take = _number(call, "skip", 0), _number(call, "take", TAKE)
        page = found[skip : skip + take]
        left = max(0, len(found) - skip - len(page))
        pagination = {
            "totalItems": len(found),
            "remainingItems": left,
            "returnedItems": len(page),
            "itemsPerPage": take,
            "currentPage": skip // take + 1,
            "totalPages": -(-len(found) // take),
            "hasNextPage": left > 0,
            "hasPreviousPage": skip > 0,
        }
        shown = [self._twin.bodies.fetched(row) for row in page]
        return _good(shown, pagination=pagination)

    def book(self, call: Call) -> Answer:
        _require_version(call)
        kind = self._store.known.types.get(call.body.get("eventTypeId", 0))
        if kind is None:
            raise refusal(404, "NotFoundException", "Event type was not found")
        told = call.body["attendee"]
        who = Attendee(told["email"], told["name"], told["timeZone"])
        start = datetime.fromisoformat(call.body["start"])
        metadata = dict(call.body.get("metadata") or {})
        row, _ = self._twin.actions.book(kind, start, who, metadata=metadata)
        return _good(self._twin.bodies.fetched(row), 201)

    def get_booking(self, call: Call) -> Answer:
        _require_version(call)
        uid = call.path["uid"]
        series = [
            shown
            for row in self._store.known.bookings.values()
            if row.series_uid == uid and row.host == call.who
            if (shown := self._store.shown(row.uid)) is not None
        ]
        if series:
            return _good([self._twin.bodies.fetched(row) for row in series])
        shown_now = self._store.shown(self._row(call).uid)
        if shown_now is None:
            raise not_found(uid)
        return _good(self._twin.bodies.fetched(shown_now))

    def reschedule(self, call: Call) -> Answer:
        _require_version(call)
        row, body = self._row(call), call.body
        start = datetime.fromisoformat(body["start"])
        if body.get("seatUid"):
            seat = _seat(row, body["seatUid"])
            new = self._twin.actions.move_seat(row, seat, start)
        else:
            by = body.get("rescheduledBy") or row.attendees[0].email
            new = self._twin.actions.move(row, start, by)
        return _good(self._twin.bodies.fetched(new), 201)

    def cancel(self, call: Call) -> Answer:
        _require_version(call)
        row, body = self._row(call), call.body
        reason = body.get("cancellationReason")
        if not reason:
            raise bad_request("Cancellation reason is required when you are the host")
        if row.ends_at <= self._store.clock.now():
            raise bad_request("This booking has already ended")
        if body.get("seatUid"):
            self._twin.actions.cancel_seat(row, _seat(row, body["seatUid"]), reason)
        else:
            self._twin.actions.cancel(row, call.who, reason)
        return _good(self._twin.bodies.fetched(row))

    def confirm(self, call: Call) -> Answer:
        row = self._row(call)
        self._twin.actions.approve(row)
        return _good(self._twin.bodies.fetched(row))

    def decline(self, call: Call) -> Answer:
        row = self._row(call)
        self._twin.actions.decline(row, call.body.get("reason"))
        return _good(self._twin.bodies.fetched(row))

    def mark_absent(self, call: Call) -> Answer:
        row = self._row(call)
        for told in call.body.get("attendees", []):
            self._twin.actions.mark(row, told["email"], absent=bool(told["absent"]))
        return _good(self._twin.bodies.fetched(row))

    def references(self, call: Call) -> Answer:
        _require_version(call)
        booking = self._row(call)
        row = self._store.shown(booking.uid) or booking
        room = {"id": row.id, "type": "daily_video", "eventUid": "room-1"}
        found: list[dict[str, Any]] = [room]
        if row.calendar_event is not None:
            calendar = {
                "id": row.id,
                "type": self._store.known.users[row.host].calendar,
                "eventUid": row.calendar_event,
                "destinationCalendarId": row.host,
            }
            found.insert(0, calendar)
        return _good(found)

    def add_webhook(self, call: Call) -> Answer:
        body = call.body
        for name in ("subscriberUrl", "triggers"):
            if not body.get(name):
                raise bad_request(f"{name} should not be empty")
        for other in self._mine(call):
            if other.url == body["subscriberUrl"]:
                message = "Webhook with this subscriberUrl already exists"
                raise refusal(409, "ConflictException", message)
        made = Webhook(
            id=self._new_webhook_id(),
            host=call.who,
            url=body["subscriberUrl"],
            triggers=list(body["triggers"]),
            secret=body.get("secret"),
            active=bool(body.get("active", True)),
            template=body.get("payloadTemplate"),
        )
        self._store.known.webhooks[made.id] = made
        return _good(self._webhook_body(made), 201)

    def list_webhooks(self, call: Call) -> Answer:
        skip, take = _number(call, "skip", 0), _number(call, "take", TAKE_WEBHOOKS)
        found = self._mine(call)[skip : skip + take]
        return _good([self._webhook_body(one) for one in found])

    def get_webhook(self, call: Call) -> Answer:
        return _good(self._webhook_body(self._webhook(call)))

    def change_webhook(self, call: Call) -> Answer:
        webhook, body = self._webhook(call), call.body
        webhook.url = body.get("subscriberUrl", webhook.url)
        webhook.triggers = body.get("triggers", webhook.triggers)
        webhook.secret = body.get("secret", webhook.secret)
        webhook.active = body.get("active", webhook.active)
        webhook.template = body.get("payloadTemplate", webhook.template)
        return _good(self._webhook_body(webhook))

    def delete_webhook(self, call: Call) -> Answer:
        webhook = self._webhook(call)
        del self._store.known.webhooks[webhook.id]
        return _good(self._webhook_body(webhook))

    def _row(self, call: Call) -> Booking:
        row = self._store.known.bookings.get(call.path["uid"])
        if row is None or row.host != call.who:
            raise not_found(call.path["uid"])
        return row

    def _mine(self, call: Call) -> list[Webhook]:
        known = self._store.known.webhooks.values()
        return [webhook for webhook in known if webhook.host == call.who]

    def _webhook(self, call: Call) -> Webhook:
        webhook = self._store.known.webhooks.get(call.path["id"])
        if webhook is None or webhook.host != call.who:
            raise refusal(404, "NotFoundException", "Webhook was not found")
        return webhook

    def _new_webhook_id(self) -> str:
        is_number = self._twin.behaviour.webhook_ids == "number"
        return str(self._store.new_id()) if is_number else new_key()

    def _webhook_body(self, webhook: Webhook) -> dict[str, Any]:
        is_number = webhook.id.isdecimal()
        return {
            "id": int(webhook.id) if is_number else webhook.id,
            "userId": self._store.known.users[webhook.host].id,
            "subscriberUrl": webhook.url,
            "triggers": webhook.triggers,
            "active": webhook.active,
            "payloadTemplate": webhook.template,
            "secret": webhook.secret,
        }


def _good(data: object, status: int = 200, **more: object) -> Answer:
    return Answer({"status": "success", "data": data, **more}, status)


def _require_version(call: Call) -> None:
    # The real one answers an older shape, silently; that would hide our mistake.
    if call.headers.get("cal-api-version") != VERSION:
        raise bad_request(f"cal-api-version {VERSION} is what this twin answers")


def _seat(row: Booking, seat_id: str) -> Attendee:
    for one in row.attendees:
        if one.seat_id == seat_id:
            return one
    raise bad_request("Seat was not found in this booking")


def _number(call: Call, name: str, otherwise: int) -> int:
    text = call.query.get(name, str(otherwise))
    if not text.isdecimal():
        raise bad_request(f"{name} must be a number")
    return int(text)


def _time(call: Call, name: str) -> datetime | None:
    text = call.query.get(name)
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise bad_request(f"{name} must be a valid ISO 8601 date string") from None
