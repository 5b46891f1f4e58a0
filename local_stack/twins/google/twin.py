"""A Google Calendar of our own: its API as an ASGI app, its people as objects."""

from local_stack.twins.calendar_twin import CalendarTwin
from local_stack.twins.google.api import Api
from local_stack.twins.google.behaviour import Behaviour
from local_stack.twins.google.channels import Channels
from local_stack.twins.google.control import GoogleControl
from local_stack.twins.google.guests import send_to_guests
from local_stack.twins.google.http import ApiRoutes
from local_stack.twins.google.listing import Lister
from local_stack.twins.google.memory import dump, load
from local_stack.twins.google.oauth import OAuth
from local_stack.twins.google.oauth_routes import OAuthRoutes
from local_stack.twins.google.people import Account, People
from local_stack.twins.google.personal_calendars import Calendar
from local_stack.twins.google.push import PushSender
from local_stack.twins.google.quota import ProjectQuota
from local_stack.twins.google.state import CalendarState, EventRecord, Store
from local_stack.twins.google.writer import Writer
from runtime.clock import Clock


class GoogleTwin(CalendarTwin[Behaviour, Account, Calendar]):
    """The twin of Google Calendar: API at `/calendar/v3`, OAuth at `/o/oauth2`."""

    pushes: PushSender
    store: Store

    def __init__(
        self, clock: Clock | None = None, behaviour: Behaviour | None = None
    ) -> None:
        super().__init__(clock, behaviour or Behaviour())
        self.store = Store(self.clock)
        self.oauth = OAuth(self.clock)
        self.channels = Channels(self.clock, self.behaviour)
        self.pushes = PushSender(self.behaviour, self.switchboard)
        self.outbox = self.pushes
        self.people = People(self.store, Writer(self.store, self.behaviour), self.oauth)
        self.api = Api(
            self.store,
            self.people.writer,
            Lister(self.store, self.behaviour),
            self.channels,
            self.pushes,
        )
        self.store.on_change = self._announce
        self.store.on_write = self._written
        self._serve(
            [
                *self._api_routes().routes(),
                *OAuthRoutes(
                    self.oauth, self.store, self.switchboard, self.calls
                ).routes(),
                *GoogleControl(self).routes(),
            ]
        )

    def dump(self) -> bytes:
        """Return everything the twin knows, for `load` after a restart."""
        return dump(self)

    def load(self, document: bytes) -> None:
        """Take over what another twin knew: events, tokens, cursors, channels.

        Raises:
            Unreadable: nothing was taken over.
        """
        load(self, document)

    def forget_receivers(self) -> None:
        """End every channel: who was pushed to is no longer there."""
        for channel in self.channels.by_id.values():
            channel.expires_at = self.clock.now()

    def _api_routes(self) -> ApiRoutes:
        quota = ProjectQuota(self.clock, self.behaviour)
        return ApiRoutes(
            self.api, self.oauth, quota, self.behaviour, self.switchboard, self.calls
        )

    def _announce(self, calendar: CalendarState) -> None:
        for channel in self.channels.of(calendar):
            self.pushes.post(self.pushes.message(channel, "exists"))
        self._on_change()

    def _written(self, calendar: CalendarState, record: EventRecord) -> None:
        send_to_guests(self.store, calendar, record)
        late = self.behaviour.late_etag_s
        if late is not None:
            self.pushes.later(late, lambda: self.store.touch(calendar, record))
