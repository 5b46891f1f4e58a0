"""A Calendly of our own: its API as an ASGI app, its people as objects."""

from local_stack.twins.booking_twin import BookingTwin
from local_stack.twins.calendly.actions import Actions
from local_stack.twins.calendly.api import Api
from local_stack.twins.calendly.behaviour import Behaviour
from local_stack.twins.calendly.control import CalendlyControl
from local_stack.twins.calendly.oauth import OAuth
from local_stack.twins.calendly.people import Host
from local_stack.twins.calendly.state import (
    Store,
    User,
    invalid,
    new_id,
    refusal,
)
from local_stack.twins.calendly.webhooks import Webhooks
from local_stack.twins.rest import Refusal
from local_stack.twins.switchboard import Fault
from runtime.clock import Clock


class CalendlyTwin(BookingTwin[Behaviour, Store]):
    """The twin of Calendly: API at `/`, OAuth at `/oauth`."""

    def __init__(
        self, clock: Clock | None = None, behaviour: Behaviour | None = None
    ) -> None:
        super().__init__(clock, behaviour or Behaviour(), Store)
        self.oauth = OAuth(self.store, self.behaviour)
        self.webhooks = Webhooks(
            self.store, self.behaviour, self.outbox, self.switchboard
        )
        self.actions = Actions(self)
        self.pushes = self.webhooks.poster
        rest = self._rest()
        self._serve(
            [
                *Api(self).routes(rest),
                *self.oauth.routes(rest),
                *CalendlyControl(self).routes(),
            ]
        )

    def host(
        self,
        email: str,
        *,
        name: str | None = None,
        time_zone: str = "Europe/Berlin",
        colleague_of: str | None = None,
        has_webhooks: bool = True,
    ) -> Host:
        """Return somebody who can be booked; a new address makes an account.

        Everybody has an organization of their own, unless they share a colleague's.
        """
        with self.store.exclusive() as known:
            if email not in known.users:
                organization = (
                    known.users[colleague_of].organization_id
                    if colleague_of
                    else new_id()
                )
                known.users[email] = User(
                    new_id(),
                    email,
                    name or email.partition("@")[0],
                    time_zone,
                    organization,
                    has_webhooks,
                )
        return Host(self, email)

    def forget_receivers(self) -> None:
        """Remove every webhook: who was posted to is no longer there."""
        with self.store.exclusive() as known:
            known.subscriptions.clear()

    def revoke(self, email: str) -> None:
        """Disconnect every app of an account."""
        self.oauth.revoke_account(email)

    def _who(self, token: str) -> str:
        return self.oauth.who(token)

    def _quota_headers(self, limit: int, left: int, reset_s: int) -> dict[str, str]:
        return {
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(left),
            "X-RateLimit-Reset": str(reset_s),
        }

    def _over_quota(self, headers: dict[str, str]) -> Refusal:
        return refusal(429, "Too Many Requests", "Rate limit exceeded", headers)

    def _ordered(self, fault: Fault) -> Refusal:
        headers = {}
        if fault.status == 429:
            headers["X-RateLimit-Reset"] = str(round(fault.retry_after_s or 60))
        title = fault.reason or (
            "Internal Server Error" if fault.status >= 500 else "Error"
        )
        return refusal(fault.status, title, title, headers)

    def _malformed(self) -> Refusal:
        return invalid("The body could not be read")
