"""What the twins of booking providers share: what they know, and their quota."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from local_stack.twins.app import TwinApp
from local_stack.twins.booking_store import BookingStore
from local_stack.twins.outbox import Outbox
from local_stack.twins.posts import Poster
from local_stack.twins.quota import Quota
from local_stack.twins.rest import Refusal, Rest
from local_stack.twins.switchboard import Fault
from runtime.clock import Clock

NO_LIMIT = 1_000_000


class BookingBehaviour(msgspec.Struct, kw_only=True):
    """The switch that every twin of a booking provider has."""

    requests_per_minute: int | None = None


Behaviour = TypeVar("Behaviour", bound=BookingBehaviour)
Store = TypeVar("Store", bound=BookingStore[Any])


class BookingTwin(TwinApp[Behaviour], ABC, Generic[Behaviour, Store]):
    """A twin that posts bookings; it says no in its provider's own words."""

    pushes: Poster

    def __init__(
        self,
        clock: Clock | None,
        behaviour: Behaviour,
        store: Callable[[Clock], Store],
    ) -> None:
        super().__init__(clock, behaviour)
        self.outbox = Outbox()
        self.store = store(self.clock)
        self._quota = Quota(self.clock)

    def dump(self) -> bytes:
        """Return everything the twin knows, for `load` after a restart."""
        return self.store.dump()

    def load(self, document: bytes) -> None:
        """Take over what another twin knew.

        Raises:
            Unreadable: nothing was taken over.
        """
        self.store.load(document)

    def follow(self, on_change: Callable[[], None]) -> None:
        """Call this after every change; it may come from any thread."""
        self.store.on_change = on_change

    @abstractmethod
    def revoke(self, email: str) -> None:
        """End everything that opens an account."""

    @abstractmethod
    def _who(self, token: str) -> str: ...

    @abstractmethod
    def _quota_headers(self, limit: int, left: int, reset_s: int) -> dict[str, str]: ...

    @abstractmethod
    def _over_quota(self, headers: dict[str, str]) -> Refusal: ...

    @abstractmethod
    def _ordered(self, fault: Fault) -> Refusal: ...

    @abstractmethod
    def _malformed(self) -> Refusal: ...

    def _rest(self) -> Rest:
        return Rest(
            self.switchboard,
            self.calls,
            self.outbox,
            authenticate=self._who,
            spend=self._spend,
            ordered=self._ordered,
            revoke=self.revoke,
            malformed=self._malformed,
        )

    def _spend(self, _: str, who: str) -> dict[str, str]:
        limit = self.behaviour.requests_per_minute or NO_LIMIT
        left, reset_s = self._quota.spend(who, limit)
        headers = self._quota_headers(limit, max(0, left), reset_s)
        if left < 0:
            raise self._over_quota(headers)
        return headers
