"""docs/api.md says what the database offers."""

import re
from pathlib import Path

import pytest

from tests.support.sessions import Connection

API = Path(__file__).parents[2] / "docs" / "api.md"


@pytest.fixture(scope="module")
def words() -> set[str]:
    """Everything that the page sets as code, taken apart."""
    return {
        word
        for code in re.findall(r"`([^`]+)`", API.read_text())
        for word in re.findall(r"\w+", code)
    }


async def test_every_table_view_and_function_is_documented(
    database: Connection, words: set[str]
) -> None:
    offered = await database.fetch(
        """
        select relname::text as name from pg_catalog.pg_class
        where relnamespace = 'public'::regnamespace and relkind in ('r', 'v')
        union all
        select proname::text from pg_catalog.pg_proc
        where pronamespace = 'public'::regnamespace
        """
    )

    assert {row["name"] for row in offered} - words == set()


async def test_every_argument_and_answered_column_of_a_function_is_documented(
    database: Connection, words: set[str]
) -> None:
    names = await database.fetch(
        """
        select unnest(proargnames) as name from pg_catalog.pg_proc
        where pronamespace = 'public'::regnamespace
        """
    )

    assert {row["name"] for row in names} - words == set()


async def test_every_column_that_users_may_write_is_documented(
    database: Connection, words: set[str]
) -> None:
    columns = await database.fetch(
        """
        select attname::text as name from pg_catalog.pg_attribute
        join pg_catalog.pg_class as class on class.oid = attrelid
        where class.relnamespace = 'public'::regnamespace and attnum > 0
          and class.relname not in ('pipeline_rules', 'reference_mappings')
          and has_column_privilege('authenticated', attrelid, attnum, 'update')
        """
    )

    assert {row["name"] for row in columns} - words == set()
