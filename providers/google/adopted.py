"""Channels that an older system made, and that are believed until they end."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final, TypeAlias
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Adopted:
    """What stands for such a channel here, and until when it is believed."""

    channel_id: UUID
    expires_at: datetime


# By SHA-256 of the token and by the id that Google knows the channel by: older systems
# often have one token for all their channels. Whoever guesses learns nothing from the
# time that a look-up takes, for nobody chooses the hash that is compared.
AdoptedChannels: TypeAlias = Mapping[tuple[bytes, str], Adopted]
NONE: Final[AdoptedChannels] = MappingProxyType({})


def token_hash(token: str) -> bytes:
    """Hash a token as sync.take_over_channel does."""
    return hashlib.sha256(token.encode()).digest()
