"""Who wants to hear of which table's changes."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import structlog

from local_stack.gateway.authorization import DATABASE_GONE
from local_stack.gateway.bindings import (
    Binding,
    BindingRefused,
    Filter,
    NotNow,
    read_binding,
)
from local_stack.gateway.pgoutput import Relation
from local_stack.gateway.queries import query
from local_stack.gateway.tokens import Claims

if TYPE_CHECKING:
    from local_stack.gateway.channels import Channel

IN_VALUES: Final = 100
ANSWER_LIMIT_S: Final = 5.0
_WORDS: Final = frozenset({"null", "true", "false", "unknown"})
_CAPITAL: Final = re.compile(r"(?<!^)(?=[A-Z])")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Listener:
    """A channel, what it listens for, and as whom."""

    channel: "Channel"
    claims: Claims
    bindings: tuple[Binding, ...]

    @property
    def identity(self) -> tuple[str, str]:
        """What the policies see: listeners that share it see the same rows."""
        return self.claims.role, self.claims.json


class Subscriptions:
    """Channels with bindings, each checked against the database first."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        publication: str,
        stream_is_live: Callable[[], Awaitable[object]],
    ):
        self._pool = pool
        self._publication = publication
        self._listeners: dict[Channel, Listener] = {}
        self._by_table: dict[tuple[str, str], list[Listener]] = {}
        self.stream_is_live = stream_is_live

    async def add(self, channel: "Channel") -> None:
        """Check a channel's bindings and take them in, all or none.

        Changes committed from now on are heard.

        Raises:
            BindingRefused: with the text for the client.
        """
        bindings = tuple(read_binding(params) for params in channel.join.bindings)
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                await self.stream_is_live()
            async with self._pool.acquire() as connection:
                check = _Check(connection, self._publication, channel.claims.role)
                for binding in bindings:
                    await check.binding(binding)
        except DATABASE_GONE as error:
            raise NotNow(
                "Unable to subscribe to changes: the database does not answer"
            ) from error
        if not channel.closed:
            self._listeners[channel] = Listener(channel, channel.claims, bindings)
            self._by_table.clear()

    def remove(self, channel: "Channel") -> None:
        if self._listeners.pop(channel, None) is not None:
            self._by_table.clear()

    def has(self, channel: "Channel") -> bool:
        return channel in self._listeners

    def of(self, relation: Relation) -> list["Listener"]:
        """Return who listens to a table, each with its bindings on that table."""
        name = (relation.schema, relation.table)
        found = self._by_table.get(name)
        if found is None:
            found = self._by_table[name] = list(self._matching(*name))
        return found

    def _matching(self, schema: str, table: str) -> Iterable["Listener"]:
        for listener in self._listeners.values():
            matching = tuple(
                binding
                for binding in listener.bindings
                if _matches(binding.schema, schema) and _matches(binding.table, table)
            )
            if matching:
                yield Listener(listener.channel, listener.claims, matching)


@lru_cache(maxsize=1024)
def _pattern(name: str) -> re.Pattern[str]:
    """Return a name as LIKE reads it: so does the real server."""
    parts = {"%": ".*", "_": "."}
    text = "".join(parts.get(char) or re.escape(char) for char in name)
    return re.compile(text, re.DOTALL)


def _matches(name: str, actual: str) -> bool:
    return name in {"*", actual} or _pattern(name).fullmatch(actual) is not None


class _Check:
    """Asks the database about bindings, in the server's words for what it refuses."""

    def __init__(self, connection: Any, publication: str, role: str):
        self._connection = connection
        self._publication = publication
        self._role = role

    async def binding(self, binding: Binding) -> None:
        fetch = self._connection.fetch
        tables = await fetch(
            query("published_tables"), self._publication, binding.schema, binding.table
        )
        if not tables:
            raise BindingRefused(
                "Unable to subscribe to changes with given parameters. Please check "
                "Realtime is enabled for the given connect parameters: "
                f"[{binding.described()}]"
            )
        try:
            if not await self._connection.fetchval(query("role_exists"), self._role):
                _fail(
                    "42704", "undefined_object", f'role "{self._role}" does not exist'
                )
            for table in tables:
                await self._columns(table["oid"], binding)
        except _Refused as error:
            raise BindingRefused(
                "Unable to subscribe to changes with given parameters. An exception "
                "happened so please check your connect parameters: "
                f"[{binding.described()}]. Exception: ERROR {error}"
            ) from error

    async def _columns(self, table: int, binding: Binding) -> None:
        if not binding.filters and binding.select is None:
            return
        readable = await self._connection.fetchval(
            query("readable_columns"), table, self._role
        )
        for condition in binding.filters:
            if condition.column not in readable:
                _raised(f"invalid column for filter {condition.column}")
            await self._filter(table, condition)
        for column in binding.select or ():
            if column not in readable:
                _raised(f"invalid column for select {column}")

    async def _filter(self, table: int, condition: Filter) -> None:
        if condition.operator == "is" and condition.value not in _WORDS:
            _raised(
                "invalid value for is filter: must be null, true, false, or unknown"
            )
        # built by Postgres, which quotes the value; running it shows whether it fits
        statement = await self._connection.fetchval(
            query("filter_check"),
            table,
            condition.column,
            condition.operator,
            condition.value,
        )
        try:
            answer = await self._connection.fetchval(statement)
        except DATABASE_GONE:
            raise
        except asyncpg.PostgresError as error:
            raise _Refused(
                f"{error.sqlstate} ({_condition(error)}) {error.args[0]}"
            ) from error
        if condition.operator == "in" and (answer or 0) > IN_VALUES:
            _raised(f"too many values for `in` filter. Maximum {IN_VALUES}")


class _Refused(Exception):
    pass


def _fail(sqlstate: str, condition: str, message: str) -> None:
    raise _Refused(f"{sqlstate} ({condition}) {message}")


def _raised(message: str) -> None:
    _fail("P0001", "raise_exception", message)


def _condition(error: asyncpg.PostgresError) -> str:
    name = type(error).__name__.removesuffix("Error")
    return _CAPITAL.sub("_", name).lower()
