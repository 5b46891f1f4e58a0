"""Secrets at rest and secrets on channels, from one ring of keys.

A ring holds several keys, newest first. What is new is sealed and signed with the
newest; what is old names its key and opens as long as that key is on the ring. So a key
is rotated by putting a fresh one in front, and dropped when nothing names it any more.

* Tampered / UnknownKey  a sealed value cannot be opened: the connection must be renewed
* InvalidToken           a channel token is forged, or of a key that is gone: refuse it
* MalformedKeys          the setting itself cannot be read
"""

import base64
import binascii
import hmac
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
# NIST SP 800-38D: 96 random bits are safe for 2**32 seals with one key.
NONCE_BYTES = 12
# A token must fit Graph's clientState, 128 characters: 3 + 16 + 1 + 36 + 1 + 43 = 100.
KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,16}")
TOKEN_VERSION = "v1"  # noqa: S105


class MalformedKeys(ValueError):
    """The ring's text is not ``id:key,id:key``; the message never quotes it."""


class UnknownKey(Exception):
    """Sealed with a key that is not on the ring."""


class Tampered(Exception):
    """Changed since it was sealed, or sealed for something else."""


class InvalidToken(Exception):
    """Not a channel token of ours."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A ciphertext, and the id of the key that opens it."""

    key_id: str
    ciphertext: bytes


class _Key:
    """One key of the ring, as the two subkeys that are used."""

    __slots__ = ("_mac_key", "_prefix", "_signing_key", "cipher", "id")

    def __init__(self, key_id: str, secret: bytes) -> None:
        self.id = key_id
        self.cipher = AESGCM(_subkey(secret, b"supacal sealed value v1"))
        self._mac_key = _subkey(secret, b"supacal channel token v1")
        self._signing_key = _subkey(secret, b"supacal webhook signing key v1")
        self._prefix = f"{TOKEN_VERSION}.{key_id}."

    def channel_token(self, channel_id: str) -> str:
        """Sign the channel's id; the key's id is signed too."""
        signed = self._prefix + channel_id
        # One call into C, quicker than an hmac object: this runs for every delivery.
        mac = hmac.digest(self._mac_key, signed.encode(), "sha256")
        return f"{signed}.{_encode(mac)}"

    def signing_key(self, channel_id: str) -> str:
        """Derive what a provider signs this channel's deliveries with."""
        return _encode(hmac.digest(self._signing_key, channel_id.encode(), "sha256"))


class Keyring:
    """Seals and opens, signs and verifies; shows nothing of its keys."""

    def __init__(self, keys: Iterable[tuple[str, bytes]]) -> None:
        ring = [_Key(key_id, secret) for key_id, secret in keys]
        if not ring:
            raise MalformedKeys("there is no key")
        self._newest = ring[0]
        self._by_id = {key.id: key for key in ring}
        if len(self._by_id) < len(ring):
            raise MalformedKeys("two keys have the same id")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``id1:key1,id2:key2``, newest first; a key is 32 bytes in base64url."""
        return cls(_parse_key(position, part) for position, part in _parts(text))

    @staticmethod
    def generate(key_id: str = "k1") -> str:
        """Make the text of one fresh key, to be put in front of a ring."""
        return f"{key_id}:{_encode(os.urandom(KEY_BYTES))}"

    def __repr__(self) -> str:
        return f"Keyring({', '.join(self._by_id)})"

    @property
    def key_ids(self) -> list[str]:
        """The ids of the keys, newest first."""
        return list(self._by_id)

    def seal(self, plaintext: bytes, *, context: str) -> Sealed:
        """Encrypt with the newest key; it opens only with the same context."""
        nonce = os.urandom(NONCE_BYTES)
        ciphertext = self._newest.cipher.encrypt(nonce, plaintext, context.encode())
        return Sealed(self._newest.id, nonce + ciphertext)

    def open(self, sealed: Sealed, *, context: str) -> bytes:
        """Decrypt what ``seal`` made.

        Raises:
            UnknownKey: its key is not on the ring: put it back, or seal anew.
            Tampered: it was changed, or belongs to another context.
        """
        key = self._by_id.get(sealed.key_id)
        if key is None:
            raise UnknownKey(f"no key {sealed.key_id!r} on the ring")
        nonce, body = sealed.ciphertext[:NONCE_BYTES], sealed.ciphertext[NONCE_BYTES:]
        try:
            return key.cipher.decrypt(nonce, body, context.encode())
        except (InvalidTag, ValueError):  # ValueError: cut short, not even a nonce left
            raise Tampered("the sealed value was changed or moved") from None

    def channel_token(self, channel_id: UUID) -> str:
        """Make the secret of a channel: it needs no storage to be verified."""
        return self._newest.channel_token(str(channel_id))

    def verify_channel_token(self, token: str) -> UUID:
        """Return the id of the channel that this token was made for.

        Raises:
            InvalidToken: it is no token of ours, or its key is no longer on the ring.
        """
        parts = token.split(".")
        if len(parts) != 4 or not token.isascii():
            raise InvalidToken("not of the form of a channel token")
        key = self._by_id.get(parts[1])
        if key is None:
            raise InvalidToken("signed with an unknown key")
        if not hmac.compare_digest(key.channel_token(parts[2]), token):
            raise InvalidToken("wrong signature")
        return UUID(parts[2])

    def signing_keys(self, channel_id: UUID) -> list[str]:
        """Derive what a provider may sign a channel's deliveries with, newest first.

        A new channel is given the first; any of them is believed.
        """
        return [key.signing_key(str(channel_id)) for key in self._by_id.values()]


def connection_context(connection_id: UUID) -> str:
    """Name what a connection's sealed tokens belong to."""
    return f"connection:{connection_id}"


def _parts(text: str) -> Iterable[tuple[int, str]]:
    return enumerate((part.strip() for part in text.split(",") if part.strip()), 1)


def _parse_key(position: int, part: str) -> tuple[str, bytes]:
    key_id, colon, encoded = part.partition(":")
    if not colon or not KEY_ID.fullmatch(key_id):
        raise MalformedKeys(f"key {position} has no id of 1 to 16 letters and digits")
    try:
        secret = base64.b64decode(
            encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True
        )
    except (binascii.Error, ValueError):
        raise MalformedKeys(f"key {position} is not base64url") from None
    if len(secret) != KEY_BYTES:
        raise MalformedKeys(f"key {position} has {len(secret)} bytes, not {KEY_BYTES}")
    return key_id, secret


def _subkey(secret: bytes, purpose: bytes) -> bytes:
    return HKDF(hashes.SHA256(), KEY_BYTES, salt=None, info=purpose).derive(secret)


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
