"""An Outlook of our own: Microsoft Graph's calendars as an ASGI app."""

from starlette.routing import Route

from local_stack.twins.calendar_twin import CalendarTwin
from local_stack.twins.microsoft.api import Api
from local_stack.twins.microsoft.behaviour import Behaviour
from local_stack.twins.microsoft.control import MicrosoftControl
from local_stack.twins.microsoft.delta import Deltas
from local_stack.twins.microsoft.guests import send_to_guests
from local_stack.twins.microsoft.http import ApiRoutes
from local_stack.twins.microsoft.memory import dump, load
from local_stack.twins.microsoft.oauth import OAuth
from local_stack.twins.microsoft.oauth_routes import OAuthRoutes
from local_stack.twins.microsoft.people import Account, People
from local_stack.twins.microsoft.personal_calendars import Calendar
from local_stack.twins.microsoft.push import PushSender
from local_stack.twins.microsoft.quota import MailboxQuota
from local_stack.twins.microsoft.state import (
    CalendarState,
    Change,
    EventRecord,
    Store,
)
from local_stack.twins.microsoft.subscription_api import SubscriptionApi
from local_stack.twins.microsoft.subscriptions import Subscription, Subscriptions
from local_stack.twins.microsoft.writer import Writer
from runtime.clock import Clock


class MicrosoftTwin(CalendarTwin[Behaviour, Account, Calendar]):
    """The twin of Microsoft Graph's calendars and of its OAuth server."""

    pushes: PushSender
    store: Store

    def __init__(
        self, clock: Clock | None = None, behaviour: Behaviour | None = None
    ) -> None:
        super().__init__(clock, behaviour or Behaviour())
        self.store = Store(self.clock)
        self.oauth = OAuth(self.clock)
        self.subscriptions = Subscriptions(self.clock, self.store, self.behaviour)
        self.pushes = PushSender(
            self.behaviour, self.switchboard, self.store.accounts.__getitem__
        )
        self.outbox = self.pushes
        writer = Writer(self.store, self.behaviour)
        self.people = People(self.store, writer, self.oauth)
        self.api = Api(
            self.store, writer, Deltas(self.store, self.behaviour), self.behaviour
        )
        self.store.on_changes = self._announce
        self.store.on_write = self._written
        self._serve(self._routes())

    def dump(self) -> bytes:
        """Return everything the twin knows, for `load` after a restart."""
        return dump(self)

    def load(self, document: bytes) -> None:
        """Take over what another twin knew: events, tokens, cursors, subscriptions.

        Raises:
            Unreadable: nothing was taken over.
        """
        load(self, document)

    def forget_receivers(self) -> None:
        """End every subscription: who was notified is no longer there."""
        with self.store.exclusive():
            self.subscriptions.by_id.clear()

    def ask_to_reauthorize(self, subscription_id: str) -> bool:
        """Say `reauthorizationRequired`; False where no lifecycle URL was given."""
        return self.pushes.tell_lifecycle(
            self._subscription(subscription_id), "reauthorizationRequired"
        )

    def remove_subscription(self, subscription_id: str) -> bool:
        """Take a subscription away, and say `subscriptionRemoved`."""
        subscription = self._subscription(subscription_id)
        self.subscriptions.remove(subscription_id)
        return self.pushes.tell_lifecycle(subscription, "subscriptionRemoved")

    def say_missed(self, subscription_id: str) -> bool:
        """Say that notifications were not delivered."""
        return self.pushes.tell_lifecycle(self._subscription(subscription_id), "missed")

    def say_all_missed(self) -> int:
        """Say so to everybody whose items were discarded; returns to how many."""
        told = 0
        for health in self.pushes.hosts.by_name.values():
            missed, health.missed = health.missed, set()
            live = (self.subscriptions.by_id.get(one) for one in sorted(missed))
            told += sum(
                self.pushes.tell_lifecycle(one, "missed") for one in live if one
            )
        return told

    def _subscription(self, subscription_id: str) -> Subscription:
        return self.subscriptions.by_id[subscription_id]

    def _routes(self) -> list[Route]:
        routes = ApiRoutes(
            self.store,
            self.oauth,
            MailboxQuota(self.clock, self.behaviour),
            self.switchboard,
            self.calls,
            self.pushes.use_running_loop,
        )
        others = SubscriptionApi(self.subscriptions, self.pushes).operations()
        sign_in = OAuthRoutes(self.oauth, self.store, self.switchboard, self.calls)
        return [
            *routes.routes(self.api.operations(), others),
            *MicrosoftControl(self).routes(),
            *sign_in.routes(),
        ]

    def _announce(self, changes: list[Change]) -> None:
        for change in changes:
            for subscription in self.subscriptions.hearing(change.calendar):
                self.pushes.tell(subscription, change)
        self._on_change()

    def _written(self, calendar: CalendarState, record: EventRecord) -> None:
        send_to_guests(self.store, calendar, record)
