from pathlib import Path

import asyncpg
import pytest

from sql import Queries, queries


def write(folder: Path, file: str, text: str) -> Queries:
    (folder / file).write_text(text)
    return Queries(folder)


def test_a_query_is_found_by_its_file_and_name(tmp_path: Path) -> None:
    text = "-- name: double$\nselect :number::int * 2;\n"
    loaded = write(tmp_path, "numbers.sql", text)
    assert loaded.texts() == {"numbers.double": "select $1::int * 2;"}
    with pytest.raises(AttributeError, match="there is no file sql/letters"):
        _ = loaded.letters


async def test_a_query_runs_with_its_parameters_by_name(
    tmp_path: Path, database: asyncpg.Connection
) -> None:
    text = "-- name: subtract$\nselect :whole::int - :part::int;\n"
    loaded = write(tmp_path, "numbers.sql", text)
    assert await loaded.numbers.subtract(database, part=2, whole=5) == 3


async def test_every_query_is_understood_by_the_schema(
    database: asyncpg.Connection,
) -> None:
    for name, text in queries.texts().items():
        try:
            await database.prepare(text)
        except asyncpg.PostgresError as refusal:
            pytest.fail(f"{name}: {refusal}")
