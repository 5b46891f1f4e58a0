"""What the gateway can be told at start."""

from collections.abc import Mapping
from dataclasses import dataclass, field

# https://supabase.com/docs/guides/realtime/limits and the server's own defaults
CHANNELS_PER_SOCKET = 100
IDLE_LIMIT_S = 60.0  # Phoenix closes a socket that said nothing for so long
INBOUND_FRAME_BYTES = 5_000_000
BROADCAST_PAYLOAD_BYTES = 3_000 * 1024
RECORD_BYTES = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class GatewaySettings:
    """Settings of one gateway; limits are the real server's unless told otherwise."""

    database_url: str
    jwt_secret: str
    host: str = "127.0.0.1"
    port: int = 0
    # Opaque keys (sb_publishable_…, sb_secret_…) and the role each stands for. The real
    # server leaves this to the API gateway in front of it.
    opaque_keys: Mapping[str, str] = field(default_factory=dict)
    publication: str = "supabase_realtime"
    messages_publication: str = "supabase_realtime_messages_publication"
    pool_size: int = 4
    keep_partitions: bool = True
    channels_per_socket: int = CHANNELS_PER_SOCKET
    idle_limit_s: float = IDLE_LIMIT_S
    inbound_frame_bytes: int = INBOUND_FRAME_BYTES
    broadcast_payload_bytes: int = BROADCAST_PAYLOAD_BYTES
    record_bytes: int = RECORD_BYTES
    # What may wait in one socket's send buffer before the client counts as too slow.
    send_buffer_bytes: int = 16 * 1024 * 1024
    # Row changes that may wait for their access checks before reading is paused.
    pending_changes: int = 50_000
