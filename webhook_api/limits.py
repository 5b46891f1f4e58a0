"""What a stranger may cost us, and how long anybody may wait."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The receiver's bounds; each keeps some memory or some wait finite."""

    body_bytes: int = 65_536
    batch_bytes: int = 1_048_576  # of Graph, with many items; a booking, with a crowd
    # Senders that dawdle hold a connection; honest ones send a request in one piece.
    headers_read_s: float = 10
    body_read_s: float = 5
    # Past 3 s Graph counts an answer as slow, and judges the whole endpoint by it.
    answer_s: float = 2.5
    # Cal.com never sends again: it is made to wait while the database is away.
    patience_s: float = 20
    flush_s: float = 2.2  # above sync.receive's own lock_timeout, below answer_s
    flush_rows: int = 1_000
    waiting_rows: int = 10_000
    # So many changes of a channel are stored one by one in a window; of more, one a
    # flush. A pull takes a second or so, and reads all that was announced before it:
    # more than one nudge a second tells nothing, and only scripts go on with it. Their
    # rows would fill the disk.
    channel_changes: int = 60
    channel_window_s: float = 60
    counted_channels: int = 20_000  # some 2 MB
    probe_s: float = 1
    adopted_every_s: float = 60  # until a channel that was taken over is believed
    refused_addresses: int = 10_000
    refused_window_s: float = 60
    # After SIGTERM: so long for what is under way to end, and again for what waits to
    # be stored. Supervisors kill after 10 s.
    drain_s: float = 4
