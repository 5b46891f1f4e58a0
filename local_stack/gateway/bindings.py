"""What a client wants to hear of tables: bindings and their filters."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

OPERATORS: Final = frozenset(
    [
        "eq",
        "neq",
        "lt",
        "lte",
        "gt",
        "gte",
        "in",
        "like",
        "ilike",
        "is",
        "match",
        "imatch",
        "isdistinct",
    ]
)
_EVENTS: Final = frozenset({"INSERT", "UPDATE", "DELETE"})
_ID_BITS: Final = 0x7FFFFFF  # the real server's ids are below 2^27


class BindingRefused(Exception):
    """Why there will be no rows; the text goes into a system message."""


class NotNow(BindingRefused):
    """There may be rows later: the database does not answer."""


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition on a column; the value is text, as in SQL before its cast."""

    column: str
    operator: str
    value: str
    negated: bool


@dataclass(frozen=True, slots=True)
class Binding:
    """Which changes of which tables, narrowed by filters, and which columns of them."""

    id: int
    event: str
    schema: str
    table: str
    filters: tuple[Filter, ...] = ()
    select: tuple[str, ...] | None = None

    def described(self) -> str:
        """Return the parameters in the words of the server's own messages."""
        filters = [(f.column, f.operator, f.value, f.negated) for f in self.filters]
        select = None if self.select is None else list(self.select)
        return (
            f"event: {self.event}, schema: {self.schema}, table: {self.table}, "
            f"filters: {inspect(filters)}, select: {inspect(select)}"
        )


def binding_id(params: Mapping[str, Any]) -> int:
    """Return the number of a binding: equal parameters have equal ones, never zero."""
    text = msgspec.json.encode(params, order="sorted")
    return zlib.crc32(text) & _ID_BITS or 1


def read_binding(params: Mapping[str, Any]) -> Binding:
    """Read one entry of `postgres_changes`; BindingRefused says what is wrong."""
    select = _read_select(params)
    schema, table = _read_names(params)
    if select is not None and "*" in {schema, table}:
        raise BindingRefused(
            "Column selection is not supported for wildcard subscriptions. "
            "Provide an explicit schema and table name."
        )
    try:
        filters = _read_filters(params.get("filter", ""))
    except _FilterError as error:
        raise BindingRefused(f"Error parsing `filter` params: {error}") from error
    event = params.get("event")
    event = event.upper() if isinstance(event, str) else "*"
    return Binding(
        binding_id(params),
        event if event in _EVENTS else "*",
        schema,
        table,
        filters,
        select,
    )


def _read_names(params: Mapping[str, Any]) -> tuple[str, str]:
    schema, table = params.get("schema"), params.get("table")
    complete = isinstance(schema, str) and isinstance(table, str)
    if complete and isinstance(params.get("filter", ""), str):
        return str(schema), str(table)
    if "filter" not in params:
        if isinstance(schema, str) and "table" not in params:
            return schema, "*"
        if isinstance(table, str) and "schema" not in params:
            return "public", table
    raise BindingRefused(
        "No subscription params provided. Please provide at least a `schema` or "
        f"`table` to subscribe to: {_shown(params)}"
    )


def _shown(params: Mapping[str, Any]) -> str:
    secret = "user_token" in params or "auth_token" in params
    return "<redacted>" if secret else inspect(params)


def _read_select(params: Mapping[str, Any]) -> tuple[str, ...] | None:
    select = params.get("select")
    if isinstance(select, str):
        raise BindingRefused(
            "Error parsing `select` params: expected a list of column name strings, "
            'e.g. select: ["col1", "col2"]'
        )
    if not isinstance(select, list):
        return None
    names = sorted({name for name in select if isinstance(name, str)})
    return tuple(names) or None


# -- filters: column=operator.value, joined by commas


class _FilterError(ValueError):
    pass


def _read_filters(text: str) -> tuple[Filter, ...]:
    text = text.strip()
    if not text:
        return ()
    return tuple(_read_filter(segment.strip()) for segment in _segments(text))


def _segments(text: str) -> list[str]:
    """Split at commas outside of parentheses and of quotes that open a value."""
    segments, start, depth = [], 0, 0
    quoted = escaped = False
    for place, char in enumerate(text):
        before = text[place - 1] if place > start else ""
        if escaped:
            escaped = False
        elif quoted:
            escaped = char == "\\"
            quoted = char != '"'
        elif char == '"' and before and before in ".(,":
            quoted = True
        elif char == "(":
            depth += 1
        elif char == ")":
            depth = max(0, depth - 1)
        elif char == "," and not depth:
            segments.append(text[start:place])
            start = place + 1
    return [*segments, text[start:]]


def _read_filter(segment: str) -> Filter:
    if not segment:
        raise _FilterError(
            "filter must not contain empty segments (check for extra commas)"
        )
    column, equals, rest = segment.partition("=")
    if not equals:
        raise _FilterError(inspect([segment]))
    negated = rest.startswith("not.")
    rest = rest.removeprefix("not.")
    operator, dot, value = rest.partition(".")
    if not dot:
        raise _FilterError(inspect([rest]))
    if operator not in OPERATORS:
        raise _FilterError(inspect([operator, value]))
    return Filter(column, operator, _read_value(operator, value), negated)


def _read_value(operator: str, value: str) -> str:
    if operator != "in":
        return _unquoted(value)
    if len(value) < 2 or value[0] != "(" or value[-1] != ")":
        raise _FilterError("`in` filter value must be wrapped by parentheses")
    return "{" + value[1:-1] + "}"


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    chars: list[str] = []
    place = 1
    while place < len(value):
        char = value[place]
        if char == '"':
            return "".join(chars) if place == len(value) - 1 else value
        if char == "\\" and place + 1 < len(value):
            place += 1
            char = value[place]
        chars.append(char)
        place += 1
    return value


def inspect(value: object) -> str:
    """Write a value the way the server's messages do."""
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, Mapping):
        inner = (f"{inspect(k)} => {inspect(v)}" for k, v in sorted(value.items()))
        return "%{" + ", ".join(inner) + "}"
    if isinstance(value, tuple):
        return "{" + ", ".join(map(inspect, value)) + "}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(map(inspect, value)) + "]"
    return str(value)
