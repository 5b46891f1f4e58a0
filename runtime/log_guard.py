"""The net under the logs: nothing secret or personal passes it.

Fields whose names say that they hold such things are blotted out, and so is what looks
like a secret or an address inside any text. Logging it is wrong in the first place.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from uuid import UUID

from structlog.typing import EventDict, WrappedLogger

BLOTTED = "[hidden]"
UNNAMED = "log.unnamed"
EVENT_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")
# A field is hidden when a word of its name stands here …
HIDDEN_WORDS = frozenset({
    "address", "attendee", "attendees", "authorization", "body", "ciphertext",
    "cookie", "credential", "credentials", "description", "email", "emails",
    "headers", "jwt", "key", "keys", "location", "mail", "name", "notes",
    "organizer", "passphrase", "password", "payload", "phone", "plaintext", "raw",
    "secret", "secrets", "signature", "subject", "summary", "title", "token",
    "tokens", "url",
})  # fmt: skip
# … unless the name ends in one of these: key_id, body_bytes, subject_id are harmless.
HARMLESS_ENDINGS = ("_id", "_count", "_bytes", "_ms", "_s")
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
SECRET_TEXT = re.compile(
    r"""
      [^\s@<>"'=(]+@[^\s@<>"',;)]+       # an address; the credentials of a URL
    | \S+%40\S+                          # an address inside a URL
    | (?i:bearer|basic)\s+\S+            # an Authorization header
    | \bya29\.\S+ | \b1//[\w-]{10,}      # Google's access and refresh tokens
    | \beyJ[\w-]+\.[\w.-]+               # a JWT
    | \bv1\.[\w-]+\.[0-9a-f-]{36}\.\S+   # a channel token of ours
    """,
    re.VERBOSE,
)
# What each of them has. Looking for this first makes a line cost half as much.
SUSPICIOUS = re.compile(r"@|%40|1//|v1\.|eyJ|ya29\.|[bB][eEaA]")


def guard(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Blot out what must not be seen, whatever was passed."""
    shown = show(event)
    # A name with a value in it can be neither counted nor trusted.
    if not _is_event_name(str(event.get("event"))):
        shown["event"] = UNNAMED
    return shown


def show(fields: Mapping[str, object]) -> dict[str, object]:
    """Return the fields as they may be seen."""
    return {key: _shown(key, value) for key, value in fields.items()}


def _shown(key: str, value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if _is_hidden(key):
        return BLOTTED
    # Nearly all are of these; to ask what else one may be costs more than the line.
    if isinstance(value, str):
        return _without_secrets(str(value))
    if type(value) is UUID:
        return str(value)
    if isinstance(value, Mapping):
        return show({str(inner): v for inner, v in value.items()})
    if isinstance(value, list | tuple | set | frozenset):
        return [_shown("", inner) for inner in value]
    return _without_secrets(str(value))


def _without_secrets(text: str) -> str:
    return SECRET_TEXT.sub(BLOTTED, text) if SUSPICIOUS.search(text) else text


@lru_cache(maxsize=1024)
def _is_event_name(event: str) -> bool:
    return EVENT_NAME.fullmatch(event) is not None


@lru_cache(maxsize=1024)
def _is_hidden(key: str) -> bool:
    if key.endswith(HARMLESS_ENDINGS):
        return False
    return any(word.lower() in HIDDEN_WORDS for word in WORD.findall(key))
