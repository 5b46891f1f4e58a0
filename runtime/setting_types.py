"""What the value of a setting can be, each with the words that say so."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo
from pydantic_core import PydanticCustomError

from runtime.sealing import Keyring

MISSING_PARTNER = "missing_partner"

# Google takes 64 of these in the id of a channel, and 36 are ours.
CHANNEL_PREFIX = re.compile(r"[A-Za-z0-9_+/=-]{1,28}")
TENANT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,253})")


@dataclass(frozen=True, slots=True)
class Expected:
    """Ends the sentence ``SUPACAL_PORT must be …``."""

    words: str


def missing(name: str) -> PydanticCustomError:
    """Make the refusal of a validator that found another variable missing."""
    return PydanticCustomError(MISSING_PARTNER, "missing", {"name": name})


def _postgres_url(value: SecretStr) -> SecretStr:
    parts = urlsplit(value.get_secret_value())
    # A password with an unescaped # or / moves the host: the port is no number then.
    if parts.scheme not in {"postgresql", "postgres"} or parts.fragment:
        raise ValueError
    if parts.port == 0:
        raise ValueError
    return value


def _base_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError
    if parts.username or parts.query or parts.fragment or parts.port == 0:
        raise ValueError
    return value.rstrip("/")


def _public_url(value: str) -> str:
    parts = urlsplit(_base_url(value))
    if parts.scheme != "https" and not _is_loopback(parts.hostname or ""):
        raise ValueError
    return value.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _keyring(value: SecretStr) -> SecretStr:
    Keyring.parse(value.get_secret_value())
    return value


def _networks(value: str) -> str:
    for network in value.split(","):
        ipaddress.ip_network(network.strip())
    return value


def _tenant(value: str) -> str:
    # It becomes a part of a path.
    if not TENANT.fullmatch(value):
        raise ValueError
    return value


def _channel_prefix(value: str) -> str:
    if not CHANNEL_PREFIX.fullmatch(value):
        raise ValueError
    return value


def _with_its_id(secret: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
    secret_name = str(info.field_name)
    id_name = secret_name.removesuffix("_secret") + "_id"
    if (secret is None) == (info.data.get(id_name) is None):
        return secret
    raise missing(secret_name if secret is None else id_name)


PostgresUrl = Annotated[
    SecretStr,
    AfterValidator(_postgres_url),
    Expected(
        "a URL like postgresql://user:password@host:5432/database, "
        "special characters percent-encoded"
    ),
]
BaseUrl = Annotated[
    str, AfterValidator(_base_url), Expected("a URL like https://host/path")
]
PublicUrl = Annotated[
    str,
    AfterValidator(_public_url),
    Expected("an https URL without a query (http is for loopback only)"),
]
SecretKeys = Annotated[
    SecretStr,
    AfterValidator(_keyring),
    Expected("id:key,id:key with keys of 32 bytes in base64url, newest first"),
]
# …_client_secret, declared after …_client_id: both are given, or neither.
ClientSecret = Annotated[SecretStr | None, AfterValidator(_with_its_id)]
Networks = Annotated[
    str, AfterValidator(_networks), Expected("networks like 10.0.0.0/8,127.0.0.1/32")
]
Tenant = Annotated[
    str,
    AfterValidator(_tenant),
    Expected("common, organizations, consumers, or a tenant's id or domain"),
]
ChannelPrefix = Annotated[
    str,
    AfterValidator(_channel_prefix),
    Expected("at most 28 letters, digits and characters of _+/=-"),
]
Port = Annotated[int, Field(ge=0, le=65535), Expected("a port, 0 to 65535")]
Seconds = Annotated[int, Field(ge=1, le=86400), Expected("whole seconds, 1 to 86400")]
Count = Annotated[
    int, Field(ge=1, le=1_000_000), Expected("a whole number, 1 to 1000000")
]
