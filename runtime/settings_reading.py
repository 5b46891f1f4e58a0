"""How settings are read: from where, and what is said when they are wrong."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from runtime.sealing import MalformedKeys
from runtime.setting_types import MISSING_PARTNER, Expected


class SettingsError(Exception):
    """What is missing or wrong, one sentence a variable; programs exit with 2."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class Settings(BaseSettings):
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


S = TypeVar("S", bound=Settings)


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
