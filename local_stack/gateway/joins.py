"""What a client asks for when it joins. A malformed part counts as not said."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

REPLAY_LIMIT: Final = 25


class JoinRefused(Exception):
    """A join that ends with an error reply; the text is its reason, code first."""

    def __init__(self, code: str, message: str):
        super().__init__(f"{code}: {message}")


@dataclass(frozen=True, slots=True)
class Replay:
    """How much of the past a client wants to hear."""

    since_ms: float
    limit: int


@dataclass(frozen=True, slots=True)
class Join:
    """A join's config, defaults filled in; `bindings` are still as they were sent."""

    bindings: list[dict[str, Any]]
    token: str | None
    presence_key: str
    ack: bool = False
    hears_itself: bool = False
    private: bool = False
    presence: bool = False
    wants_replication_notice: bool = False
    replay: Replay | None = None


def read_join(payload: Any, topic: str) -> Join:
    """Read the payload of phx_join on a topic (without its prefix)."""
    payload = _map(payload)
    config = _map(payload.get("config"))
    broadcast, presence = _map(config.get("broadcast")), _map(config.get("presence"))
    private = _flag(config.get("private"))
    key = presence.get("key")
    return Join(
        bindings=_bindings(config) if "config" in payload else [_legacy(topic)],
        token=_token(payload),
        presence_key=key if isinstance(key, str) and key else str(uuid.uuid4()),
        ack=_flag(broadcast.get("ack")),
        hears_itself=_flag(broadcast.get("self")),
        private=private,
        presence=_flag(presence.get("enabled")),
        wants_replication_notice=_flag(broadcast.get("replication_ready")),
        replay=_replay(broadcast, private=private),
    )


def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _flag(value: object) -> bool:
    if isinstance(value, str):
        return value.lower() == "true"
    return value is True


def _token(payload: Mapping[str, Any]) -> str | None:
    """Return the token to use; None means that of the connection."""
    named = payload.get("access_token") or payload.get("user_token")
    if isinstance(named, str) and named.startswith("sb_"):
        return None
    for name in ("user_token", "access_token"):
        if isinstance(payload.get(name), str):
            return str(payload[name])
    return None


def _bindings(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    listed = config.get("postgres_changes")
    if not isinstance(listed, list):
        return []
    bindings = [entry for entry in listed if entry is not None]
    if not all(isinstance(entry, dict) for entry in bindings):
        raise JoinRefused("UnknownErrorOnChannel", "Unknown Error on Channel")
    return bindings


def _legacy(topic: str) -> dict[str, Any]:
    """Clients from before `config` name schema, table and filter in the topic."""
    names = ("schema", "table", "filter")
    return dict(zip(names, topic.split(":", 2), strict=False))


def _replay(broadcast: Mapping[str, Any], *, private: bool) -> Replay | None:
    if "replay" not in broadcast:
        return None
    if not private:
        raise JoinRefused(
            "UnableToReplayMessages", "Replay is not allowed for public channels"
        )
    asked = broadcast["replay"]
    if not isinstance(asked, dict):
        return None
    since, limit = asked.get("since") or 0, asked.get("limit") or REPLAY_LIMIT
    if not (isinstance(since, int | float) and isinstance(limit, int)):
        raise JoinRefused("UnableToReplayMessages", "Replay params are not valid")
    return Replay(float(since), max(1, min(limit, REPLAY_LIMIT)))
