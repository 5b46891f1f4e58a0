"""Settings: one frozen class a program, read once at start from environment and .env.

``read(WorkerSettings)`` names every problem in one message, and never a secret's value.
No other module reads the environment. docs/settings.md lists them all.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from runtime.booking_settings import BookingCalls, BookingDeliveries
from runtime.sealing import Keyring
from runtime.setting_types import (
    BaseUrl,
    ChannelPrefix,
    ClientSecret,
    Count,
    Networks,
    Port,
    PostgresUrl,
    PublicUrl,
    Seconds,
    SecretKeys,
    Tenant,
    missing,
)
from runtime.settings_reading import Settings, SettingsError, read

__all__ = [
    "DatabaseAccess",
    "DatabaseSettings",
    "ReceiverSettings",
    "SettingsError",
    "StackSettings",
    "WorkerSettings",
    "read",
]


@dataclass(frozen=True, slots=True)
class DatabaseAccess:
    """Where a pool connects, and the role it takes there."""

    url: SecretStr
    role: str | None


class _Program(Settings):
    """What the two programs share: the database and the keys."""

    database_url: PostgresUrl | None = Field(
        None,
        description="Postgres in session mode (LISTEN needs it), as a login that may "
        "take Supacal's roles. Required, unless each pool has a login of its own.",
    )
    supacal_secret_keys: SecretKeys = Field(
        description="Keys for provider tokens and channel secrets, newest first: put a "
        "fresh one in front, drop the old one when nothing names it any more."
    )

    @cached_property
    def keyring(self) -> Keyring:
        """The keys, ready for use."""
        return Keyring.parse(self.supacal_secret_keys.get_secret_value())

    def _access(self, own: SecretStr | None, role: str) -> DatabaseAccess:
        if own is not None:
            return DatabaseAccess(own, None)
        if self.database_url is None:  # refused while reading
            raise SettingsError(["DATABASE_URL is missing"])
        return DatabaseAccess(self.database_url, role)


def _or_database_url(own: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
    """Without a login of its own a pool needs DATABASE_URL."""
    # A DATABASE_URL that was given but is wrong is absent here, and reported already.
    if own is None and info.data.get("database_url", ...) is None:
        raise missing("database_url")
    return own


class _Google(Settings):
    """The OAuth client, for those who make connections and those who use them."""

    google_client_id: str | None = Field(
        None, description="The OAuth client that Google connections are made with."
    )
    google_client_secret: ClientSecret = Field(
        None, description="The secret of GOOGLE_CLIENT_ID."
    )


class _Microsoft(Settings):
    """The OAuth client, for those who make connections and those who use them."""

    microsoft_client_id: str | None = Field(
        None, description="The OAuth client that Outlook connections are made with."
    )
    microsoft_client_secret: ClientSecret = Field(
        None, description="The secret of MICROSOFT_CLIENT_ID."
    )
    microsoft_tenant: Tenant = Field(
        "common",
        description="Whose accounts may connect: `common`, `organizations`, "
        "`consumers`, or one tenant by its id.",
    )


class ReceiverSettings(_Program, _Google, _Microsoft, BookingDeliveries):
    """Settings of webhook_api."""

    receiver_database_url: PostgresUrl | None = Field(
        None,
        description="The login that stores deliveries. Without it: DATABASE_URL "
        "followed by `set role webhook_ingest`.",
    )
    connect_database_url: PostgresUrl | None = Field(
        None,
        description="The login that stores connections made by OAuth. Without it: "
        "DATABASE_URL followed by `set role webhook_connect`.",
    )
    supacal_public_url: PublicUrl | None = Field(
        None, description="Where providers reach this program from outside."
    )
    supacal_host: str = Field("127.0.0.1", description="The address to listen on.")
    supacal_port: Port = Field(
        8000, description="The port to listen on; 0 takes any free one."
    )
    supacal_trusted_proxies: Networks | None = Field(
        None,
        description="The networks of proxies whose X-Forwarded-For is believed.",
    )
    supacal_rate_refused_per_minute: Count = Field(
        60,
        description="How many refused requests a minute one address may make before "
        "it is answered 429. What verifies is never limited.",
    )

    _or_database_url = field_validator("receiver_database_url")(_or_database_url)

    @property
    def database(self) -> DatabaseAccess:
        """For the pool that stores deliveries."""
        return self._access(self.receiver_database_url, "webhook_ingest")

    @property
    def connect_database(self) -> DatabaseAccess:
        """For the pool that stores connections."""
        return self._access(self.connect_database_url, "webhook_connect")


class WorkerSettings(_Program, _Google, _Microsoft, BookingCalls):
    """Settings of the worker."""

    worker_database_url: PostgresUrl | None = Field(
        None,
        description="The login that works on tasks, in session mode. Without it: "
        "DATABASE_URL followed by `set role sync_worker`.",
    )
    supacal_public_url: PublicUrl = Field(
        description="Where providers reach webhook_api from outside; channels are made "
        "with it. https, except on loopback."
    )
    supacal_channel_prefix: ChannelPrefix | None = Field(
        None,
        description="What the ids of Google's channels begin with, to tell deployments "
        "apart: at most 28 of `A-Z a-z 0-9 _ + / = -`. Channels keep the one they were "
        "made with.",
    )
    supacal_lease_seconds: Seconds = Field(
        60,
        description="How long a task belongs to a worker that shows no sign of life.",
    )
    supacal_worker_slots: Count = Field(
        32, description="How many tasks one worker runs at the same time."
    )
    supacal_worker_per_connection: Count = Field(
        8, description="How many of them may belong to one connected account."
    )
    supacal_probe_seconds: Seconds = Field(
        15,
        description="How often the worker makes sure that notifications still reach "
        "it. Nothing else is asked of the database while nothing is due.",
    )
    google_api_url: BaseUrl = Field(
        "https://www.googleapis.com/calendar/v3",
        description="Google's Calendar API, or a twin or proxy of it.",
    )
    google_auth_url: BaseUrl = Field(
        "https://oauth2.googleapis.com",
        description="Google's OAuth server, or a twin of it: `/token` is added.",
    )
    microsoft_api_url: BaseUrl = Field(
        "https://graph.microsoft.com/v1.0",
        description="Microsoft Graph, or a twin or proxy of it.",
    )
    microsoft_auth_url: BaseUrl = Field(
        "https://login.microsoftonline.com",
        description="Microsoft's OAuth server, or a twin of it: "
        "`/{tenant}/oauth2/v2.0/token` is added.",
    )

    _or_database_url = field_validator("worker_database_url")(_or_database_url)

    @property
    def database(self) -> DatabaseAccess:
        """For the worker's pool, and for its listener."""
        return self._access(self.worker_database_url, "sync_worker")


class DatabaseSettings(Settings):
    """Settings of the commands that only need the database."""

    database_url: PostgresUrl = Field(
        description="The database to look at or to migrate, as the role `postgres`."
    )


class StackSettings(Settings):
    """Settings of the local stack: what is not given here, it starts itself."""

    database_url: PostgresUrl | None = Field(
        None, description="A Postgres to use in the place of one of its own."
    )
    supabase_url: BaseUrl | None = Field(
        None, description="A Supabase to use in the place of one of its own."
    )
    supabase_anon_key: SecretStr | None = Field(
        None, description="The anon (publishable) key of SUPABASE_URL."
    )
    supabase_service_role_key: SecretStr | None = Field(
        None, description="The service role (secret) key of SUPABASE_URL."
    )
    supabase_jwt_secret: SecretStr | None = Field(
        None, description="What SUPABASE_URL signs its users' JWTs with."
    )
    supacal_secret_keys: SecretKeys | None = Field(
        None, description="As above; without it the stack makes a key and keeps it."
    )
    supacal_postgres_dir: Path | None = Field(
        None, description="A directory that has `bin/initdb` and `bin/postgres`."
    )
    supacal_state_dir: Path = Field(
        Path(".supacal"), description="Where the stack keeps its data between runs."
    )
    supacal_shared: Path = Field(
        Path("../shared"),
        description="Where real calendars and recordings lie, if there are any.",
    )
