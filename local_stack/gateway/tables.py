"""Published tables: their columns, who may read them, and their rows as JSON."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import msgspec
import structlog

from local_stack.gateway.authorization import DATABASE_GONE
from local_stack.gateway.bindings import Filter
from local_stack.gateway.pgoutput import UNCHANGED, Relation, Row
from local_stack.gateway.queries import query
from local_stack.gateway.tokens import Claims

log = structlog.get_logger()

POLICY_LIMIT_S: Final = 5.0  # everybody's rows wait for the slowest policy

# name, type, place in the primary key, generated
_Columns = list[tuple[str, str, int | None, bool]]
_read_columns: Final = msgspec.json.Decoder(_Columns).decode
_read_readable: Final = msgspec.json.Decoder(dict[str, frozenset[str]]).decode
_read_image: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


@dataclass(frozen=True, slots=True)
class Table:
    """A table as it is now; `readable` says by role which columns may be selected."""

    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...]
    generated: frozenset[str]
    has_rls: bool
    readable: dict[str, frozenset[str]]
    statement: str
    visible: str | None


@dataclass(frozen=True, slots=True)
class Image:
    """A row's values as JSON by column, and which filters it passes."""

    values: dict[str, msgspec.Raw]
    passed: frozenset[Filter]


async def describe(
    connection: Any, relation: Relation, roles: Iterable[str], filters: Sequence[Filter]
) -> Table | None:
    """Look a table up; None if it is gone."""
    row = await connection.fetchrow(
        query("describe_table"),
        relation.oid,
        list(relation.columns),
        list(roles),
        [f.column for f in filters],
        [f.operator for f in filters],
        [f.value for f in filters],
        [f.negated for f in filters],
    )
    if row is None:
        return None
    columns = _read_columns(row["columns"])
    keyed = sorted((place, name) for name, _, place, _ in columns if place is not None)
    return Table(
        columns=tuple((name, kind) for name, kind, _, _ in columns),
        key=tuple(name for _, name in keyed),
        generated=frozenset(name for name, _, _, made in columns if made),
        has_rls=row["has_rls"],
        readable=_read_readable(row["readable"] or "{}"),
        statement=row["statement"],
        visible=row["visible"],
    )


async def images(
    connection: Any,
    relation: Relation,
    table: Table,
    rows: Sequence[Row],
    filters: Sequence[Filter],
) -> list[Image]:
    """Turn streamed rows into JSON, all of one table in one round trip."""
    streamed = [
        [None if row[place] is UNCHANGED else row[place] for row in rows]
        for place in range(len(relation.columns))
    ]
    found = await connection.fetch(table.statement, *streamed)
    made = [Image({}, frozenset())] * len(rows)
    for row in found:
        passed = zip(filters, row["passed"], strict=True)
        values = {name: raw.copy() for name, raw in _read_image(row["image"]).items()}
        made[row["n"] - 1] = Image(values, frozenset(f for f, yes in passed if yes))
    return made


async def images_one_by_one(
    connection: Any, relation: Relation, rows: Sequence[Row], filters: Sequence[Filter]
) -> list[Image]:
    """Do what `images` does when a filter fails: one client's must not harm others."""
    bare = await describe(connection, relation, (), ())
    if bare is None:
        return [Image({}, frozenset())] * len(rows)
    made = await images(connection, relation, bare, rows, ())
    for single in filters:
        table = await describe(connection, relation, (), (single,))
        try:
            found = table and await images(connection, relation, table, rows, (single,))
        except DATABASE_GONE:
            raise
        except asyncpg.PostgresError as error:
            log.warning("gateway.filter_failed", sqlstate=error.sqlstate)
            continue
        made = [
            Image(image.values, image.passed | one.passed)
            for image, one in zip(made, found or (), strict=True)
        ]
    return made


async def visible_rows(
    connection: Any, table: Table, claims: Claims, keys: Sequence[Sequence[str | None]]
) -> frozenset[int]:
    """Return the places of the keys (a list a key column) that a client may see now.

    A policy that fails for a row hides that row, and no other.
    """
    if table.visible is None:
        return frozenset()
    try:
        return await _look(connection, table.visible, claims, keys)
    except (TimeoutError, asyncpg.QueryCanceledError):
        log.warning("gateway.policy_too_slow", limit_s=POLICY_LIMIT_S)
        return frozenset()
    except DATABASE_GONE:
        raise
    except asyncpg.PostgresError as error:
        log.warning("gateway.policy_failed", sqlstate=error.sqlstate)
    seen: set[int] = set()
    count = len(keys[0])
    for place in range(count) if count > 1 else ():
        single = [[column[place]] for column in keys]
        try:
            if await _look(connection, table.visible, claims, single):
                seen.add(place)
        except DATABASE_GONE:
            raise
        except asyncpg.PostgresError:
            continue  # told already
    return frozenset(seen)


async def _look(
    connection: Any,
    statement: str,
    claims: Claims,
    keys: Sequence[Sequence[str | None]],
) -> frozenset[int]:
    """Look for rows as a client, in a transaction that leaves nothing behind."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(query("become"), claims.role, claims.json)
        found = await connection.fetch(statement, *keys, timeout=POLICY_LIMIT_S)
    finally:
        if not connection.is_closed():
            await transaction.rollback()
    return frozenset(row["n"] - 1 for row in found)
