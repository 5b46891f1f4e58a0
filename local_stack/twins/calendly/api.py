"""The operations of the Calendly API v2, each a plain function of one call."""

import base64
import binascii
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.routing import Route

from local_stack.twins.calendly.bodies import (
    invitee_body,
    subscription_body,
    user_body,
)
from local_stack.twins.calendly.state import (
    Event,
    Invitee,
    Subscription,
    User,
    id_of,
    invalid,
    new_id,
    not_found,
    refusal,
)
from local_stack.twins.calendly.webhooks import is_over
from local_stack.twins.rest import Answer, Call, Rest

if TYPE_CHECKING:
    from local_stack.twins.calendly.twin import CalendlyTwin

T = TypeVar("T")
MOST = 100
DEFAULT = 20
USER_AND_ORGANIZATION = {"organization", "user", "group"}
SCOPES = {
    "invitee.created": USER_AND_ORGANIZATION,
    "invitee.canceled": USER_AND_ORGANIZATION,
    "invitee_no_show.created": USER_AND_ORGANIZATION,
    "invitee_no_show.deleted": USER_AND_ORGANIZATION,
    "routing_form_submission.created": {"organization"},
}


class Api:
    """What the API does, without HTTP."""

    def __init__(self, twin: "CalendlyTwin") -> None:
        self._twin = twin
        self._store = twin.store
        self._bodies = twin.webhooks.bodies

    def routes(self, rest: Rest) -> list[Route]:
        """Return every operation."""
        one = "/scheduled_events/{event_id}"
        hooks = "/webhook_subscriptions"
        hook = f"{hooks}/{{subscription_id}}"
        mark = "/invitee_no_shows"
        events = "scheduled_events"
        table: tuple[tuple[str, str, str, Callable[[Call], Answer]], ...] = (
            ("users.me", "GET", "/users/me", self.me),
            (f"{events}.list", "GET", "/scheduled_events", self.list_events),
            (f"{events}.get", "GET", one, self.get_event),
            (f"{events}.cancel", "POST", f"{one}/cancellation", self.cancel),
            ("invitees.list", "GET", f"{one}/invitees", self.list_invitees),
            ("invitees.get", "GET", f"{one}/invitees/{{id}}", self.get_invitee),
            ("invitee_no_shows.create", "POST", mark, self.mark),
            (
                "invitee_no_shows.delete",
                "DELETE",
                "/invitee_no_shows/{id}",
                self.unmark,
            ),
            ("webhook_subscriptions.create", "POST", hooks, self.subscribe),
            ("webhook_subscriptions.list", "GET", hooks, self.list_subscriptions),
            ("webhook_subscriptions.get", "GET", hook, self.get_subscription),
            ("webhook_subscriptions.delete", "DELETE", hook, self.unsubscribe),
        )
        return [
            rest.route(name, method, path, self._store.alone(work))
            for name, method, path, work in table
        ]

    def me(self, call: Call) -> Answer:
        return _resource(user_body(self._store.user(call.who)))

    def list_events(self, call: Call) -> Answer:
        known, me = self._store.known, self._store.user(call.who)
        mine = call.query.get("user") == me.uri
        if not mine and call.query.get("organization") != me.organization:
            raise invalid("user or organization is required")
        starts = [_time(call, name) for name in ("min_start_time", "max_start_time")]
        found = [
            event
            for event in known.events.values()
            if (not mine or event.host == call.who)
            and self._store.user(event.host).organization == me.organization
            and (starts[0] is None or event.starts_at >= starts[0])
            and (starts[1] is None or event.starts_at < starts[1])
            and call.query.get("status") in {None, _status(event)}
        ]
        is_down = call.query.get("sort") == "start_time:desc"
        found.sort(key=lambda event: event.starts_at, reverse=is_down)
        return _page(call, found, self._bodies.event)

    def get_event(self, call: Call) -> Answer:
        event = self._event(call)
        self._twin.actions.finish_link(event)
        return _resource(self._bodies.event(event))

    def list_invitees(self, call: Call) -> Answer:
        found = self._store.invitees_of(self._event(call))
        wanted = call.query.get("status")
        return _page(
            call,
            [one for one in found if wanted in {None, invitee_body(one)["status"]}],
            invitee_body,
        )

    def get_invitee(self, call: Call) -> Answer:
        return _resource(invitee_body(self._invitee(self._event(call), call)))

    def cancel(self, call: Call) -> Answer:
        event = self._event(call)
        live = [i for i in self._store.invitees_of(event) if i.cancellation is None]
        if event.cancellation is not None or not live:
            raise refusal(403, "Permission Denied", "Event is already canceled")
        if is_over(self._store, event):
            raise refusal(403, "Permission Denied", "Event in the past")
        reason = call.body.get("reason")
        for invitee in live:
            self._twin.actions.end(invitee, by="host", reason=reason)
            self._twin.webhooks.tell("invitee.canceled", invitee)
        return _resource(live[-1].cancellation, 201)

    def mark(self, call: Call) -> Answer:
        invitee = self._store.known.invitees.get(id_of(call.body.get("invitee")))
        if invitee is None:
            raise not_found()
        mark = self._twin.actions.mark(invitee)
        return _resource({**mark, "invitee": invitee.uri}, 201)

    def unmark(self, call: Call) -> Answer:
        invitee = self._twin.actions.marked(call.path["id"])
        if invitee is None:
            raise not_found()
        self._twin.actions.unmark(invitee)
        return Answer(status=204)

    def subscribe(self, call: Call) -> Answer:
        me, body = self._store.user(call.who), call.body
        self._check(me, body)
        now = self._store.now()
        made = Subscription(
            id=new_id(),
            url=body["url"],
            events=list(body["events"]),
            scope=body["scope"],
            organization=me.organization,
            user=me.uri if body["scope"] == "user" else None,
            creator=me.uri,
            created_at=now,
            updated_at=now,
            signing_key=body.get("signing_key"),
            by_app=self._twin.oauth.is_app(call.token),
        )
        self._store.known.subscriptions[made.id] = made
        return _resource(subscription_body(made), 201)

    def _check(self, me: User, body: dict[str, Any]) -> None:
        if not me.has_webhooks:
            message = "Please upgrade your Calendly account to Standard"
            raise refusal(403, "Permission Denied", message)
        for name in ("url", "events", "organization", "scope"):
            if not body.get(name):
                raise invalid(f"{name} is required")
        for event in body["events"]:
            if body["scope"] not in SCOPES.get(event, set()):
                raise invalid(f"{event} cannot be had with scope {body['scope']}")
        if body["organization"] != me.organization:
            raise not_found()
        anywhere = self._twin.behaviour.unique_urls == "anywhere"
        for other in self._store.known.subscriptions.values():
            same_owner = (other.scope, other.creator) == (body["scope"], me.uri)
            if other.url == body["url"] and (anywhere or same_owner):
                raise refusal(
                    409, "Already Exists", "Hook with this url already exists"
                )

    def list_subscriptions(self, call: Call) -> Answer:
        me = self._store.user(call.who)
        scope = call.query.get("scope")
        if call.query.get("organization") != me.organization or scope is None:
            raise invalid("organization and scope are required")
        found = [
            subscription
            for subscription in self._store.known.subscriptions.values()
            if subscription.organization == me.organization
            and subscription.scope == scope
            and (scope != "user" or subscription.user == call.query.get("user"))
        ]
        return _page(call, found, subscription_body)

    def get_subscription(self, call: Call) -> Answer:
        return _resource(subscription_body(self._subscription(call)))

    def unsubscribe(self, call: Call) -> Answer:
        del self._store.known.subscriptions[self._subscription(call).id]
        return Answer(status=204)

    def _event(self, call: Call) -> Event:
        event = self._store.known.events.get(call.path["event_id"])
        me = self._store.user(call.who)
        if event is None or (
            self._store.user(event.host).organization != me.organization
        ):
            raise not_found()
        return event

    def _invitee(self, event: Event, call: Call) -> Invitee:
        invitee = self._store.known.invitees.get(call.path["id"])
        if invitee is None or invitee.event_id != event.id:
            raise not_found()
        return invitee

    def _subscription(self, call: Call) -> Subscription:
        found = self._store.known.subscriptions.get(call.path["subscription_id"])
        if found is None or found.creator != self._store.user(call.who).uri:
            raise not_found()
        return found


def _status(event: Event) -> str:
    return "active" if event.cancellation is None else "canceled"


def _resource(body: object, status: int = 200) -> Answer:
    return Answer({"resource": body}, status)


def _page(
    call: Call, found: Iterable[T], show: Callable[[T], dict[str, Any]]
) -> Answer:
    everything = list(found)
    offset, count = _offset(call), _count(call)
    following = offset + count
    token = _token(following) if following < len(everything) else None
    next_page = f"https://api.calendly.com/?page_token={token}" if token else None
    return Answer(
        {
            "collection": [show(one) for one in everything[offset:following]],
            "pagination": {
                "count": len(everything[offset:following]),
                "next_page": next_page,
                "previous_page": None,
                "next_page_token": token,
                "previous_page_token": None,
            },
        }
    )


def _count(call: Call) -> int:
    text = call.query.get("count", str(DEFAULT))
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise invalid("count must be between 1 and 100")
    return int(text)


def _token(offset: int) -> str:
    return base64.urlsafe_b64encode(f"offset:{offset}".encode()).decode()


def _offset(call: Call) -> int:
    token = call.query.get("page_token")
    if token is None:
        return 0
    try:
        name, _, offset = base64.urlsafe_b64decode(token).decode().partition(":")
    except (binascii.Error, UnicodeError):
        name, offset = "", ""
    if name != "offset" or not offset.isdecimal():
        raise invalid("page_token is invalid")
    return int(offset)


def _time(call: Call, name: str) -> datetime | None:
    text = call.query.get(name)
    try:
        moment = None if text is None else datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if text is not None and (moment is None or moment.utcoffset() is None):
        raise invalid(f"{name} must be a UTC timestamp")
    return moment
