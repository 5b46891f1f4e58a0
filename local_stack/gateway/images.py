"""One row's change: what it was, what it is, and how it looks to a role."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from local_stack.gateway.bindings import Filter
from local_stack.gateway.pgoutput import UNCHANGED, Change, Kind, Relation, Row
from local_stack.gateway.tables import Image, Table

NO_KEY: Final = "Error 400: Bad Request, no primary key"
UNAUTHORIZED: Final = "Error 401: Unauthorized"
TOO_LARGE: Final = "Error 413: Payload Too Large"
KEPT_BYTES: Final = 64  # of a value's JSON, in a change that is too large
COLUMN_BYTES: Final = (
    60  # of names and braces around a value in the server's own record
)

Values = Mapping[str, msgspec.Raw]


@dataclass(frozen=True, slots=True)
class RowChange:
    """A change, values as JSON; `record` lacks what the change did not carry."""

    relation: Relation
    kind: Kind
    committed_at: str
    record: Values | None
    old_record: Values | None
    key_text: tuple[str | None, ...]
    passed: frozenset[Filter]
    filterable: frozenset[str]
    has_key: bool
    too_large: bool

    def refusal(self, table: Table, role: str) -> str | None:
        """Return the error that a role gets instead of the row, if any."""
        if self.kind == "DELETE":
            return None
        if not self.has_key:
            return NO_KEY
        if not table.readable[role].issuperset(table.key):
            return UNAUTHORIZED
        return None

    def passes(self, filters: Iterable[Filter]) -> bool:
        return all(f.column in self.filterable and f in self.passed for f in filters)

    def data(
        self,
        table: Table,
        role: str,
        select: tuple[str, ...] | None,
        error: str | None,
    ) -> bytes:
        """Return the JSON of `data` for a role and a column list."""
        shown = table.readable[role]
        if select is not None:
            shown &= {*select, *table.key}
        return msgspec.json.encode(
            self._refused(error) if error else self._shown(table, shown)
        )

    def _head(self) -> dict[str, Any]:
        relation = self.relation
        return {
            "schema": relation.schema,
            "table": relation.table,
            "type": self.kind,
        }

    def _refused(self, error: str) -> dict[str, Any]:
        body = self._head() | {
            "commit_timestamp": None,
            "columns": [],
            "errors": [error],
            "record": {},
        }
        return body | ({"old_record": {}} if self.kind == "UPDATE" else {})

    def _shown(self, table: Table, shown: frozenset[str]) -> dict[str, Any]:
        body = self._head() | {
            "commit_timestamp": self.committed_at,
            "columns": [
                {"name": name, "type": kind}
                for name, kind in table.columns
                if name in shown
            ],
            "errors": [TOO_LARGE] if self.too_large else None,
        }
        if self.record is not None:
            body["record"] = self._cut(self.record, shown)
        if self.old_record is not None:
            # nobody can be asked who may see a row that is gone: its key, then
            only_key = self.kind == "DELETE" and table.has_rls
            visible = shown & set(table.key) if only_key else shown
            body["old_record"] = self._cut(self.old_record, visible)
        return body

    def _cut(self, values: Values, shown: frozenset[str]) -> dict[str, msgspec.Raw]:
        return {
            name: value
            for name, value in values.items()
            if name in shown and not (self.too_large and _is_big(value))
        }


def _is_big(value: msgspec.Raw) -> bool:
    """Tell what a change that is too large loses: long values, and nulls."""
    data = bytes(value)
    return len(data) > KEPT_BYTES or data == b"null"


def row_change(
    at: datetime,
    change: Change,
    table: Table,
    images: Iterator[Image],
    *,
    record_bytes: int,
) -> RowChange:
    """Put a change together from the images of its rows, new one first."""
    relation = change.relation
    new = next(images) if change.new is not None else None
    old = next(images) if change.old is not None else None
    record: Values | None = None
    old_record: Values | None = None
    if new is not None:
        record = _present(change.new, relation, new, table.generated)
    if old is not None:
        generated = table.generated if relation.full_identity else frozenset()
        old_record = _present(change.old, relation, old, generated, is_old=True)
    filterable = frozenset(record if record is not None else old_record or {})
    if change.kind == "UPDATE" and record is not None and old_record is None:
        # an unchanged key is not sent again, but clients get it
        names = relation.key_columns
        old_record = {name: record[name] for name in record if name in names}
    carried = sum(map(_carried, (record, old_record)))
    if record is not None and relation.full_identity:
        record = {**(old_record or {}), **record}
    source = new or old
    return RowChange(
        relation=relation,
        kind=change.kind,
        committed_at=timestamp(at),
        record=record,
        old_record=old_record,
        key_text=_key_text(change, table),
        passed=source.passed if source else frozenset(),
        filterable=filterable,
        has_key=bool(table.key) and filterable.issuperset(table.key),
        too_large=carried > record_bytes,
    )


def _present(
    row: Row | None,
    relation: Relation,
    image: Image,
    generated: frozenset[str],
    *,
    is_old: bool = False,
) -> dict[str, msgspec.Raw]:
    """Return the values that a row really carries."""
    carried = set(generated)
    for name, value in zip(relation.columns, row or (), strict=True):
        partial = is_old and not relation.full_identity
        if value is not UNCHANGED and not (
            partial and name not in relation.key_columns
        ):
            carried.add(name)
    return {name: raw for name, raw in image.values.items() if name in carried}


def _carried(values: Values | None) -> int:
    return sum(
        len(name) + COLUMN_BYTES + len(bytes(value))
        for name, value in (values or {}).items()
    )


def _key_text(change: Change, table: Table) -> tuple[str | None, ...]:
    row = change.new if change.new is not None else change.old
    by_name = dict(zip(change.relation.columns, row or (), strict=True))
    values = (by_name.get(name) for name in table.key)
    return tuple(value if isinstance(value, str) else None for value in values)


def timestamp(at: datetime) -> str:
    """Return a commit's time as clients expect it: UTC, milliseconds, Z."""
    text = at.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
