"""Subscriptions: who may make one, to what, how long it lives."""

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from local_stack.twins.microsoft.behaviour import Behaviour
from local_stack.twins.microsoft.errors import ApiError, invalid
from local_stack.twins.microsoft.oauth import Grant
from local_stack.twins.microsoft.state import CalendarState, Json, Store
from local_stack.twins.microsoft.times import read_bound
from runtime.clock import Clock

RESOURCE = re.compile(
    r"^/?(?:me|users/(?P<user>[^/]+))(?:/calendars/(?P<calendar>[^/]+))?/events/?$"
)
CHANGE_TYPES = frozenset({"created", "updated", "deleted"})
LONGEST_STATE = 128
MOST_OF_A_MAILBOX = 1000
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(eq=False)
class Subscription:
    """One live subscription of one app to one mailbox, or to a calendar of it."""

    email: str
    client_id: str
    resource: str
    change_types: frozenset[str]
    notification_url: str
    lifecycle_url: str | None
    client_state: str | None
    expires_at: datetime
    calendar_id: str | None
    immutable: bool
    id: str = field(default_factory=lambda: str(uuid4()))

    def answer(self, *, with_state: bool = True) -> Json:
        return {
            "id": self.id,
            "resource": self.resource,
            "applicationId": self.client_id,
            "changeType": ",".join(sorted(self.change_types)),
            "clientState": self.client_state if with_state else None,
            "notificationUrl": self.notification_url,
            "notificationQueryOptions": None,
            "lifecycleNotificationUrl": self.lifecycle_url,
            "expirationDateTime": f"{self.expires_at:%Y-%m-%dT%H:%M:%SZ}",
            "creatorId": self.email,
            "includeResourceData": None,
            "latestSupportedTlsVersion": "v1_2",
            "encryptionCertificate": None,
            "encryptionCertificateId": None,
            "notificationUrlAppId": None,
        }


@dataclass
class Subscriptions:
    """Every subscription of every app."""

    clock: Clock
    store: Store
    behaviour: Behaviour
    by_id: dict[str, Subscription] = field(default_factory=dict)

    def read(self, grant: Grant, body: Json, *, immutable: bool) -> Subscription:
        """Check what is asked for; nothing is kept yet.

        Raises:
            ApiError: what Graph would not take.
        """
        resource = str(body.get("resource") or "")
        calendar = self._calendar(grant, resource)
        asked = str(body.get("changeType") or "").split(",")
        kinds = frozenset(kind.strip() for kind in asked)
        if not kinds or not kinds <= CHANGE_TYPES:
            raise invalid("changeType is invalid.", "InvalidRequest")
        state = body.get("clientState")
        if state is not None and len(str(state)) > LONGEST_STATE:
            raise invalid("clientState is too long.", "InvalidRequest")
        for name in ("notificationUrl", "lifecycleNotificationUrl"):
            if name == "notificationUrl" or body.get(name) is not None:
                self._check_address(body.get(name), name)
        made = Subscription(
            email=grant.email,
            client_id=grant.client_id,
            resource=resource,
            change_types=kinds,
            notification_url=body["notificationUrl"],
            lifecycle_url=body.get("lifecycleNotificationUrl"),
            client_state=state,
            expires_at=self.expiry(body.get("expirationDateTime")),
            calendar_id=calendar.id if calendar else None,
            immutable=immutable,
        )
        self._check_duplicate(made)
        return made

    def keep(self, subscription: Subscription) -> None:
        """Begin to send; another one may have been quicker meanwhile."""
        self._check_duplicate(subscription)
        self.by_id[subscription.id] = subscription

    def of(self, grant: Grant, subscription_id: str) -> Subscription:
        """Return a subscription of this app and user; 404 when it is dead."""
        found = self.by_id.get(subscription_id)
        mine = (grant.email, grant.client_id)
        if found is None or not self.is_live(found):
            raise _gone()
        if (found.email, found.client_id) != mine:
            raise _gone()
        return found

    def listed(self, grant: Grant) -> list[Subscription]:
        mine = (grant.email, grant.client_id)
        return [s for s in self.live() if (s.email, s.client_id) == mine]

    def live(self) -> list[Subscription]:
        return [s for s in self.by_id.values() if self.is_live(s)]

    def is_live(self, subscription: Subscription) -> bool:
        return self.clock.now() < subscription.expires_at

    def hearing(self, calendar: CalendarState) -> list[Subscription]:
        """Return who hears of a change of a calendar."""
        return [
            one
            for one in self.live()
            if one.email == calendar.owner
            and one.calendar_id in {None, calendar.id}
            and calendar.role_of(one.email) != "none"
        ]

    def remove(self, subscription_id: str) -> None:
        self.by_id.pop(subscription_id, None)

    def expiry(self, asked: object) -> datetime:
        """Return when a subscription ends: short lives are raised, long refused."""
        if not asked:
            raise invalid("expirationDateTime is required.", "InvalidRequest")
        now = self.clock.now()
        wanted = read_bound(str(asked), "expirationDateTime")
        longest = self.behaviour.longest_subscription_min
        if wanted > now + timedelta(minutes=longest):
            raise ApiError(
                400,
                "ExtensionError",
                f"Subscription expiration can only be {longest} minutes in the future.",
            )
        shortest = timedelta(minutes=self.behaviour.shortest_subscription_min)
        return max(wanted, now + shortest).replace(microsecond=0)

    def _calendar(self, grant: Grant, resource: str) -> CalendarState | None:
        match = RESOURCE.match(resource)
        if match is None:
            raise invalid(f"Resource '{resource[:80]}' is unknown.", "InvalidRequest")
        user = match["user"]
        if user is not None and unquote(user).lower() != grant.email:
            raise ApiError(403, "ErrorAccessDenied", "Access is denied.")
        if match["calendar"] is None:
            return None
        calendar = self.store.calendar_for(grant.email, unquote(match["calendar"]))
        if calendar.owner != grant.email:
            # A user's token subscribes to the user's own mailbox only.
            raise ApiError(403, "ErrorAccessDenied", "Access is denied.")
        return calendar

    def _check_address(self, address: object, name: str) -> None:
        if not isinstance(address, str) or not address:
            raise invalid(f"{name} is required.", "InvalidRequest")
        parts = urlsplit(address)
        local = self.behaviour.loopback_http and parts.hostname in LOOPBACK
        if parts.scheme != "https" and not (parts.scheme == "http" and local):
            raise invalid(f"{name} must be https.", "InvalidRequest")

    def _check_duplicate(self, wanted: Subscription) -> None:
        mailbox = [one for one in self.live() if one.email == wanted.email]
        if len(mailbox) >= MOST_OF_A_MAILBOX:
            raise ApiError(403, "ExtensionError", "Too many subscriptions.")
        if self.behaviour.duplicate_subscriptions == "accept":
            return
        for one in mailbox:
            same = _subject(one) == _subject(wanted)
            if same and one.client_id == wanted.client_id:
                raise ApiError(
                    409,
                    "Conflict",
                    f"Operation: Create; Exception: [Status Code: Conflict; Reason: "
                    f"Subscription already exists for the resource ({one.id}).]",
                )


def _subject(one: Subscription) -> tuple[str | None, frozenset[str]]:
    return one.calendar_id, one.change_types


def _gone() -> ApiError:
    return ApiError(404, "ResourceNotFound", "The object was not found.")
