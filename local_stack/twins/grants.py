"""What users of a calendar provider allowed its clients, and the tokens of it."""

import base64
import hashlib
import secrets
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Generic, TypeAlias, TypeVar

from runtime.clock import Clock

CODE_LIFE = timedelta(minutes=10)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(eq=False)
class Allowed:
    """What a user allowed one client, with the tokens that speak for it."""

    email: str
    client_id: str
    scopes: tuple[str, ...]
    refresh_token: str = ""
    access_token: str = ""
    expires_at: datetime = EPOCH


@dataclass(frozen=True)
class Code:
    """An authorization code on its way from the browser to the token endpoint."""

    email: str
    client_id: str
    redirect_uri: str
    scopes: tuple[str, ...]
    challenge: str | None
    expires_at: datetime

    def is_proven_by(self, verifier: str | None) -> bool:
        """Tell whether who brings it back is who asked for it (PKCE)."""
        if not self.challenge:
            return True
        digest = hashlib.sha256((verifier or "").encode()).digest()
        return self.challenge == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


Grant = TypeVar("Grant", bound=Allowed)
KeptAccess: TypeAlias = dict[str, tuple[int, datetime]]
"""Access tokens as they are kept over a restart: each with its grant's position."""


class Grants(ABC, Generic[Grant]):
    """Grants of every account. With no registered clients any client is known."""

    code_prefix: ClassVar[str]

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.clients: dict[str, str] = {}
        self.grants: list[Grant] = []
        self.codes: dict[str, Code] = {}
        self.access: dict[str, tuple[Grant, datetime]] = {}

    def consent(
        self,
        email: str,
        *,
        client_id: str,
        redirect_uri: str,
        scopes: tuple[str, ...],
        challenge: str | None = None,
    ) -> str:
        """Return the code that the browser carries back to the client."""
        code = f"{self.code_prefix}{secrets.token_urlsafe(32)}"
        ends = self.clock.now() + CODE_LIFE
        self.codes[code] = Code(email, client_id, redirect_uri, scopes, challenge, ends)
        return code

    def grant_of(self, access_token: str | None) -> Grant:
        """Return who a call speaks for.

        Raises:
            ApiError: 401, in the provider's own words.
        """
        grant, expires_at = self.access.get(access_token or "", (None, None))
        if grant is None or expires_at is None or self.clock.now() >= expires_at:
            raise self._bad_token()
        return grant

    def kept_access(self) -> KeptAccess:
        """Return the access tokens, to be kept beside the grants."""
        return {
            token: (self.grants.index(grant), expires_at)
            for token, (grant, expires_at) in self.access.items()
        }

    def restore(self, grants: list[Grant], access: KeptAccess) -> None:
        """Take over what was kept."""
        self.grants[:] = grants
        for token, (position, expires_at) in access.items():
            self.access[token] = (grants[position], expires_at)

    @abstractmethod
    def _bad_token(self) -> Exception: ...

    def _give_access(self, grant: Grant, token: str, life: timedelta) -> None:
        grant.access_token = token
        grant.expires_at = self.clock.now() + life
        self.access[token] = (grant, grant.expires_at)
