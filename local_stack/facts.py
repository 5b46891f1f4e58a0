"""Where everything of a running stack is."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from providers.model import Provider


class Usual:
    """Ports that are taken if they are free; the Supabase CLI has the same."""

    SUPABASE: Final = 54321
    POSTGRES: Final = 54322
    API: Final = 54330
    TWINS: Final = {
        Provider.GOOGLE: 54331,
        Provider.MICROSOFT: 54332,
        Provider.CALENDLY: 54333,
        Provider.CALCOM: 54334,
    }


class User(msgspec.Struct, frozen=True):
    """Somebody who can sign in to the local stack."""

    id: UUID
    email: str
    jwt: str
    organization: UUID | None


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What `supacal dev --json` prints."""

    database_url: str
    admin_database_url: str
    supabase_url: str
    anon_key: str
    service_role_key: str
    jwt_secret: str
    api_url: str
    console_url: str | None = None
    twins: dict[str, str]
    users: Sequence[User] = ()

    def with_users(self, users: Sequence[User]) -> "Facts":
        return msgspec.structs.replace(self, users=users)

    def with_api(self, url: str) -> "Facts":
        return msgspec.structs.replace(self, api_url=url)

    def as_json(self) -> str:
        return msgspec.json.encode(self).decode()

    def environment(self, secret_keys: str) -> dict[str, str]:
        """Return the settings with which the programs run on this stack."""
        port = self.api_url.rpartition(":")[2]
        return {
            "DATABASE_URL": self.database_url,
            "SUPABASE_URL": self.supabase_url,
            "SUPABASE_ANON_KEY": self.anon_key,
            "SUPABASE_SERVICE_ROLE_KEY": self.service_role_key,
            "SUPABASE_JWT_SECRET": self.jwt_secret,
            "SUPACAL_SECRET_KEYS": secret_keys,
            "SUPACAL_PUBLIC_URL": self.api_url,
            "SUPACAL_PORT": port,
            **self._twins_environment(),
        }

    def _twins_environment(self) -> dict[str, str]:
        google, microsoft = self.twins["google"], self.twins["microsoft"]
        calendly, calcom = self.twins["calendly"], self.twins["calcom"]
        return {
            "GOOGLE_CLIENT_ID": "local-stack",
            "GOOGLE_CLIENT_SECRET": "local-stack",
            "GOOGLE_API_URL": f"{google}/calendar/v3",
            "GOOGLE_AUTH_URL": google,
            "MICROSOFT_CLIENT_ID": "local-stack",
            "MICROSOFT_CLIENT_SECRET": "local-stack",
            "MICROSOFT_API_URL": f"{microsoft}/v1.0",
            "MICROSOFT_AUTH_URL": microsoft,
            "CALENDLY_API_URL": calendly,
            "CALENDLY_AUTH_URL": f"{calendly}/oauth",
            "CALCOM_API_URL": f"{calcom}/v2",
        }


def summary(facts: Facts) -> str:
    """Return a few lines for people."""
    rows: list[tuple[str, Any]] = [
        ("Supabase", facts.supabase_url),
        ("Postgres", facts.database_url),
        ("Webhooks", facts.api_url),
        *((f"Twin of {name}", url) for name, url in facts.twins.items()),
        *(("Signed-in user", user.email) for user in facts.users),
    ]
    return "\n".join(f"  {name:<17} {value}" for name, value in rows)
