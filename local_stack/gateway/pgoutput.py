"""Decode pgoutput, protocol version 1: what a logical replication slot sends.

https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
"""

import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
Kind = Literal["INSERT", "UPDATE", "DELETE"]


class Unchanged:
    """Stands for a TOASTed value that the change left alone and did not send."""


UNCHANGED: Final = Unchanged()
Value = str | None | Unchanged
Row = tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """A table as it was when the change was made; columns in the order of its rows."""

    oid: int
    schema: str
    table: str
    columns: tuple[str, ...]
    key_columns: frozenset[str]
    full_identity: bool


@dataclass(frozen=True, slots=True)
class Change:
    """One row's change; `old` is the key, or the whole row with identity FULL."""

    relation: Relation
    kind: Kind
    new: Row | None
    old: Row | None


@dataclass(frozen=True, slots=True)
class Transaction:
    """Committed changes in the order of their statements."""

    end_lsn: int
    committed_at: datetime
    changes: list[Change]


class _Reader:
    def __init__(self, data: bytes, position: int = 0):
        self._data = data
        self._position = position

    def number(self, layout: str) -> int:
        value: int
        (value,) = struct.unpack_from(layout, self._data, self._position)
        self._position += struct.calcsize(layout)
        return value

    def text(self) -> str:
        end = self._data.index(0, self._position)
        value = self._data[self._position : end].decode()
        self._position = end + 1
        return value

    def byte(self) -> bytes:
        value = self._data[self._position : self._position + 1]
        self._position += 1
        return value

    def row(self) -> Row:
        values: list[Value] = []
        for _ in range(self.number("!H")):
            kind = self.byte()
            if kind == b"t":
                length = self.number("!I")
                end = self._position + length
                values.append(self._data[self._position : end].decode())
                self._position = end
            else:
                values.append(UNCHANGED if kind == b"u" else None)
        return tuple(values)


def moment(microseconds: int) -> datetime:
    """Read a timestamp of the replication protocol."""
    return _EPOCH + timedelta(microseconds=microseconds)


class Decoder:
    """Turns messages into transactions; start a new one with each connection."""

    def __init__(self) -> None:
        self._relations: dict[int, Relation] = {}
        self._changes: list[Change] = []

    def decode(self, data: bytes) -> Transaction | None:
        """Take one message; returns a transaction when this one was its commit."""
        kind, reader = data[:1], _Reader(data, 1)
        if kind in {b"I", b"U", b"D"}:
            self._changes.append(self._change(kind, reader))
        elif kind == b"R":
            relation = _relation(reader)
            self._relations[relation.oid] = relation
        elif kind == b"B":
            self._changes = []
        elif kind == b"C":
            return self._commit(reader)
        # type, origin, truncate and message do not concern a Realtime client
        return None

    def _commit(self, reader: _Reader) -> Transaction:
        reader.byte()
        reader.number("!Q")
        end_lsn, committed_at = reader.number("!Q"), reader.number("!q")
        changes, self._changes = self._changes, []
        return Transaction(end_lsn, moment(committed_at), changes)

    def _change(self, kind: bytes, reader: _Reader) -> Change:
        relation = self._relations[reader.number("!I")]
        if kind == b"I":
            reader.byte()
            return Change(relation, "INSERT", reader.row(), None)
        if kind == b"D":
            reader.byte()
            return Change(relation, "DELETE", None, reader.row())
        old = None
        if reader.byte() != b"N":
            old = reader.row()
            reader.byte()
        return Change(relation, "UPDATE", reader.row(), old)


def _relation(reader: _Reader) -> Relation:
    oid, schema, table = reader.number("!I"), reader.text(), reader.text()
    identity = reader.byte()
    columns, keys = [], set()
    for _ in range(reader.number("!H")):
        is_key = reader.number("!B") & 1
        name = reader.text()
        reader.number("!I")
        reader.number("!i")
        columns.append(name)
        if is_key:
            keys.add(name)
    return Relation(
        oid,
        schema or "pg_catalog",  # the protocol's abbreviation
        table,
        tuple(columns),
        frozenset(keys),
        full_identity=identity == b"f",
    )
