"""What can go wrong with a provider, sorted by what the caller does about it.

* ProviderError         carries provider, operation, status, reason, request_id
  x Transient           again, not before ``retry_after_s``
    - RateLimited       the connection as a whole goes slower
    - Unavailable       no answer, a broken one, or a 5xx
  x CursorExpired       drop the cursor, pull the whole calendar
  x PreconditionFailed  somebody wrote first: pull, then decide again
  x AccessExpired       refresh the access token, once, and ask again
  x AccessLost          stop, and ask the user to reconnect
  x Gone                this one thing is no longer there, or no longer for us
  x Unwatchable         no channel for this calendar, ever: poll it
  x Rejected            our request was wrong: park the task for a person
* InvalidNotification   a delivery that is not to be believed: answer with ``status``
  x StaleNotification   rightly signed, but too long ago: refuse it, and sweep once
  x CustomTemplate      rightly signed, but somebody changed its form: say so
"""

from uuid import UUID

from providers.model import Provider


class ProviderError(Exception):
    """A call that failed; its text holds no token, title or address."""

    def __init__(
        self,
        provider: Provider,
        operation: str,
        *,
        status: int | None = None,
        reason: str = "",
        request_id: str | None = None,
    ) -> None:
        self.provider = provider
        self.operation = operation
        self.status = status
        self.reason = reason
        self.request_id = request_id
        super().__init__(self._message())

    def _message(self) -> str:
        """Say it as ``google events.list: 410 fullSyncRequired (request 8c1f)``."""
        what = [str(self.status)] if self.status is not None else []
        what += [self.reason] if self.reason else []
        request = f" (request {self.request_id})" if self.request_id else ""
        return (
            f"{self.provider} {self.operation}: {' '.join(what) or 'failed'}{request}"
        )


class Transient(ProviderError):
    """Nothing is wrong with what we asked: ask again later."""

    def __init__(
        self,
        provider: Provider,
        operation: str,
        *,
        status: int | None = None,
        reason: str = "",
        request_id: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(
            provider, operation, status=status, reason=reason, request_id=request_id
        )


class RateLimited(Transient):
    """The provider asks us to go slower."""


class Unavailable(Transient):
    """No answer in time, a broken one, or the provider's own failure."""


class CursorExpired(ProviderError):
    """The provider no longer knows where we stopped."""


class PreconditionFailed(ProviderError):
    """Somebody wrote between our reading and our writing."""


class AccessExpired(ProviderError):
    """The access token is no longer accepted."""


class AccessLost(ProviderError):
    """The grant is gone, or too small: only the user can mend that."""


class Gone(ProviderError):
    """The event, calendar or channel is not there, or not for us."""


class Unwatchable(ProviderError):
    """The provider pushes nothing for this calendar."""


class Rejected(ProviderError):
    """The provider understood, and refuses: asking again would not help."""


class InvalidNotification(Exception):
    """A delivery that nobody should believe; the reason is safe to log and count."""

    def __init__(self, reason: str, status: int) -> None:
        self.reason = reason
        self.status = status
        super().__init__(f"{status} {reason}")


class StaleNotification(InvalidNotification):
    """A delivery with a right signature and an old time: a repetition, or a replay.

    It is not believed; that something happened is: who gets it asks for one sweep of
    the connection that the channel or the routing key belongs to.
    """

    def __init__(
        self, provider: Provider, channel_id: UUID | None, routing_key: str | None
    ) -> None:
        self.provider = provider
        self.channel_id = channel_id
        self.routing_key = routing_key
        super().__init__("stale time", 401)


class CustomTemplate(InvalidNotification):
    """A delivery whose body was given another form by whoever made the webhook."""

    def __init__(self) -> None:
        super().__init__("custom payload template", 400)
