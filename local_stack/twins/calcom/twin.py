"""A Cal.com of our own: its API as an ASGI app, its people as objects."""

from local_stack.twins.booking_twin import BookingTwin
from local_stack.twins.calcom.actions import Actions
from local_stack.twins.calcom.api import Api
from local_stack.twins.calcom.behaviour import Behaviour
from local_stack.twins.calcom.bodies import Bodies
from local_stack.twins.calcom.control import CalcomControl
from local_stack.twins.calcom.people import Host
from local_stack.twins.calcom.state import Store, User, bad_request, refusal
from local_stack.twins.calcom.webhooks import Webhooks
from local_stack.twins.rest import Refusal
from local_stack.twins.switchboard import Fault
from runtime.clock import Clock

CODES = {
    401: "UnauthorizedException",
    403: "ForbiddenException",
    404: "NotFoundException",
    429: "TooManyRequestsException",
}


class CalcomTwin(BookingTwin[Behaviour, Store]):
    """The twin of Cal.com: its API v2 below `/v2`."""

    def __init__(
        self, clock: Clock | None = None, behaviour: Behaviour | None = None
    ) -> None:
        super().__init__(clock, behaviour or Behaviour(), Store)
        self.bodies = Bodies(self.store)
        self.webhooks = Webhooks(
            self.store, self.behaviour, self.outbox, self.switchboard
        )
        self.actions = Actions(self)
        self.pushes = self.webhooks.poster
        self._serve([*Api(self).routes(self._rest()), *CalcomControl(self).routes()])

    def host(
        self,
        email: str,
        *,
        name: str | None = None,
        time_zone: str = "Europe/Berlin",
        calendar: str | None = "google_calendar",
    ) -> Host:
        """Return somebody who can be booked; a new address makes an account."""
        with self.store.exclusive() as known:
            if email not in known.users:
                called = name or email.partition("@")[0]
                made = User(self.store.new_id(), email, called, time_zone, calendar)
                known.users[email] = made
        return Host(self, email)

    def revoke(self, email: str) -> None:
        """Delete every key of an account."""
        with self.store.exclusive() as known:
            for key in [key for key, whose in known.keys.items() if whose == email]:
                del known.keys[key]

    def forget_receivers(self) -> None:
        """Remove every webhook: who was posted to is no longer there."""
        with self.store.exclusive() as known:
            known.webhooks.clear()

    def _who(self, key: str) -> str:
        email = self.store.known.keys.get(key)
        if email is None:
            raise refusal(401, CODES[401], "Invalid API key")
        return email

    def _quota_headers(self, limit: int, left: int, reset_s: int) -> dict[str, str]:
        resets_at = int(self.clock.now().timestamp()) + reset_s
        return {
            "X-RateLimit-Limit-Default": str(limit),
            "X-RateLimit-Remaining-Default": str(left),
            "X-RateLimit-Reset-Default": str(resets_at),
        }

    def _over_quota(self, headers: dict[str, str]) -> Refusal:
        return refusal(429, CODES[429], "Too many requests", headers)

    def _ordered(self, fault: Fault) -> Refusal:
        headers = {}
        if fault.retry_after_s is not None:
            headers["Retry-After"] = str(round(fault.retry_after_s))
        code = CODES.get(fault.status, "InternalServerErrorException")
        return refusal(fault.status, code, fault.reason or "Refused", headers)

    def _malformed(self) -> Refusal:
        return bad_request("The body could not be read")
