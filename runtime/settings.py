"""Settings: one frozen class a program, read once at start from environment and .env.

Every problem stands in one message, by the variable's name; the value of a secret never
does. No other module reads the environment. docs/settings.md lists them all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from runtime.sealing import Keyring, MalformedKeys
from runtime.setting_types import (
    BaseUrl,
    Count,
    Expected,
    Networks,
    Port,
    PostgresUrl,
    PublicUrl,
    Seconds,
    SecretKeys,
)

MISSING_PARTNER = "missing_partner"


class SettingsError(Exception):
    """What is missing or wrong, one sentence a variable; programs exit with 2."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


@dataclass(frozen=True, slots=True)
class DatabaseAccess:
    """Where a pool connects, and the role it takes there."""

    url: SecretStr
    role: str | None


class _Settings(BaseSettings):
    """What all programs share. A field is named as its variable, in lower case."""

    model_config = SettingsConfigDict(
        frozen=True,
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        hide_input_in_errors=True,
        validate_default=True,
    )

    supacal_log_format: Annotated[
        Literal["json", "console"], Expected("json or console")
    ] = Field("json", description="One JSON object a line, or text for people.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        given = init_settings().get("environ")
        if given is None:
            return env_settings, dotenv_settings
        return (_GivenEnvironment(settings_cls, given),)


class _GivenEnvironment(EnvSettingsSource):
    """A mapping in the place of the process's environment."""

    def __init__(self, cls: type[BaseSettings], environ: Mapping[str, str]) -> None:
        super().__init__(cls)
        self.env_vars = {key.lower(): value for key, value in environ.items() if value}


class _Program(_Settings):
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
        raise _missing("database_url")
    return own


def _missing(name: str) -> PydanticCustomError:
    return PydanticCustomError(MISSING_PARTNER, "missing", {"name": name})


class ReceiverSettings(_Program):
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


class WorkerSettings(_Program):
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
    supacal_lease_seconds: Seconds = Field(
        60,
        description="How long a task belongs to a worker that shows no sign of life.",
    )
    supacal_worker_slots: Count = Field(
        8, description="How many tasks one worker runs at the same time."
    )
    google_client_id: str | None = Field(
        None, description="The OAuth client that Google connections were made with."
    )
    google_client_secret: SecretStr | None = Field(
        None, description="The secret of GOOGLE_CLIENT_ID."
    )
    google_api_url: BaseUrl = Field(
        "https://www.googleapis.com/calendar/v3",
        description="Google's Calendar API, or a twin or proxy of it.",
    )
    google_auth_url: BaseUrl = Field(
        "https://oauth2.googleapis.com",
        description="Google's OAuth server, or a twin of it: `/token` is added.",
    )

    _or_database_url = field_validator("worker_database_url")(_or_database_url)

    @field_validator("google_client_secret")
    @classmethod
    def _with_client_id(
        cls, secret: SecretStr | None, info: ValidationInfo
    ) -> SecretStr | None:
        if (secret is None) == (info.data.get("google_client_id") is None):
            return secret
        raise _missing("google_client_secret" if secret is None else "google_client_id")

    @property
    def database(self) -> DatabaseAccess:
        """For the worker's pool, and for its listener."""
        return self._access(self.worker_database_url, "sync_worker")


class StackSettings(_Settings):
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


S = TypeVar("S", bound=_Settings)


def read(
    cls: type[S],
    environ: Mapping[str, str] | None = None,
) -> S:
    """Read the settings of a program; a given environment stands alone, without .env.

    Raises:
        SettingsError: names every variable that is missing or wrong.
    """
    given: dict[str, Any] = {} if environ is None else {"environ": environ}
    try:
        return cls(**given)
    except ValidationError as refusal:
        problems = [_problem(cls, error) for error in refusal.errors()]
    # Outside of `except`: the refusal, with the values it holds, is not chained.
    raise SettingsError(list(dict.fromkeys(problems)))


def _problem(cls: type[BaseSettings], error: ErrorDetails) -> str:
    name = str(error["loc"][0])
    if error["type"] == MISSING_PARTNER:
        name = error["ctx"]["name"]
    field = cls.model_fields[name]
    if error["type"] in {"missing", MISSING_PARTNER}:
        return f"{name.upper()} is missing: {field.description}"
    cause = error.get("ctx", {}).get("error")
    hint = f": {cause}" if isinstance(cause, MalformedKeys) else ""
    parts = [*_parts(field.annotation), *field.metadata]
    expected = next((p.words for p in parts if isinstance(p, Expected)), "a text")
    given = str(error["input"])
    # A URL may hold a password even where none belongs.
    hidden = SecretStr in parts or "@" in given
    not_this = "" if hidden else f", not {given!r}"
    return f"{name.upper()} must be {expected}{not_this}{hint}"


def _parts(annotation: Any) -> list[Any]:
    """All types and marks that an annotation is made of."""
    inner = [part for argument in get_args(annotation) for part in _parts(argument)]
    return [annotation, *inner]
