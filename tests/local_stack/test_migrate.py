"""Migrations run once, whole or not at all, and say where they broke."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from local_stack.migrate import MigrationError, migrate
from tests.support.sessions import Sessions


@pytest.fixture
def url(bare: Sessions) -> str:
    return bare.url


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "20260101000000_one.sql", "create table public.one (id int);")
    write(tmp_path, "20260102000000_two.sql", "create table public.two (id int);")
    return tmp_path


def write(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(script, encoding="utf-8")


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


HISTORY = """
select version, name, statements from supabase_migrations.schema_migrations order by 1
"""


def test_files_are_applied_in_order_and_once(url: str, folder: Path) -> None:
    write(folder, "20260103000000_three.sql", "alter table public.two add n int;")
    assert migrate(url, folder) == [
        "20260101000000_one.sql",
        "20260102000000_two.sql",
        "20260103000000_three.sql",
    ]
    assert migrate(url, folder) == []


def test_what_ran_is_kept_as_the_supabase_cli_keeps_it(url: str, folder: Path) -> None:
    write(
        folder,
        "20260103000000_a-b c.sql",
        "-- Why.\nselect 1;\n\nselect ';';\n-- the end",
    )
    migrate(url, folder)
    assert rows(url, HISTORY)[-1] == (
        "20260103000000",
        "a-b c",
        ["-- Why.\nselect 1", "select ';'", "-- the end"],
    )


def test_an_empty_or_missing_folder_is_no_error(url: str, tmp_path: Path) -> None:
    assert migrate(url, tmp_path) == []
    assert migrate(url, tmp_path / "none") == []


def test_files_named_otherwise_are_no_migrations(url: str, tmp_path: Path) -> None:
    write(tmp_path, "notes.sql", "select nonsense;")
    write(tmp_path, "20260101000000_one.sql.bak", "select nonsense;")
    assert migrate(url, tmp_path) == []


def test_objects_belong_to_postgres_though_a_superuser_migrates(
    bare: Sessions, folder: Path
) -> None:
    migrate(bare.cluster.url_of(bare.database, role="supabase_admin"), folder)
    owner = "select relowner::regrole::text from pg_class where relname = 'one'"
    assert rows(bare.url, owner) == [("postgres",)]


def test_a_failing_file_leaves_nothing_and_names_the_line(
    url: str, folder: Path
) -> None:
    write(
        folder,
        "20260103000000_bad.sql",
        "create table public.three (id int);\n\n-- Wrong:\nalter table public.three\n"
        "  alter column nope set not null;\nselect\n  1,\n  nonsense\n;\n",
    )
    with pytest.raises(MigrationError) as raised:
        migrate(url, folder)
    assert str(raised.value) == (
        "20260103000000_bad.sql, line 4: "
        'column "nope" of relation "three" does not exist'
    )
    assert [row[0] for row in rows(url, HISTORY)] == [
        "20260101000000",
        "20260102000000",
    ]
    assert rows(url, "select to_regclass('public.three')") == [(None,)]


def test_an_error_within_a_statement_names_its_own_line(
    url: str, tmp_path: Path
) -> None:
    write(tmp_path, "1_bad.sql", "select 1;\nselect\n  'é',\n  nonsense;\n")
    with pytest.raises(MigrationError, match=r"1_bad\.sql, line 4: .*nonsense"):
        migrate(url, tmp_path)


def test_a_mended_file_is_applied(url: str, tmp_path: Path) -> None:
    write(tmp_path, "1_one.sql", "select nonsense;")
    with pytest.raises(MigrationError):
        migrate(url, tmp_path)
    write(tmp_path, "1_one.sql", "select 1;")
    assert migrate(url, tmp_path) == ["1_one.sql"]


@pytest.mark.parametrize(
    "statement",
    ["begin", "COMMIT", "rollback", "end", "start transaction", "savepoint a"],
)
def test_a_file_cannot_end_its_transaction(
    url: str, folder: Path, statement: str
) -> None:
    write(folder, "20260103000000_bad.sql", f"create table public.x ();\n{statement};")
    with pytest.raises(MigrationError, match="line 2: a migration is one transaction"):
        migrate(url, folder)
    assert rows(url, "select to_regclass('public.x')") == [(None,)]


def test_settings_of_a_file_end_with_it(url: str, tmp_path: Path) -> None:
    write(tmp_path, "1_one.sql", "create schema s; set search_path = s; set role anon;")
    write(tmp_path, "2_two.sql", "create table here (id int);")
    migrate(url, tmp_path)
    assert rows(url, "select to_regclass('public.here') is not null") == [(True,)]


def test_a_file_older_than_what_ran_is_refused(url: str, folder: Path) -> None:
    migrate(url, folder)
    write(folder, "20251231000000_late.sql", "select 1;")
    with pytest.raises(MigrationError, match="give it a later version"):
        migrate(url, folder)


def test_a_database_that_has_seen_more_is_refused(url: str, folder: Path) -> None:
    migrate(url, folder)
    (folder / "20260102000000_two.sql").unlink()
    with pytest.raises(MigrationError, match="20260102000000"):
        migrate(url, folder)


def test_two_files_of_one_version_are_refused(url: str, folder: Path) -> None:
    write(folder, "20260102000000_again.sql", "select 1;")
    with pytest.raises(MigrationError, match="have the same version"):
        migrate(url, folder)


def test_two_at_once_apply_each_file_once(url: str, folder: Path) -> None:
    write(folder, "20260101500000_slow.sql", "select pg_sleep(0.1);")
    with ThreadPoolExecutor(4) as threads:
        applied = list(threads.map(lambda _: migrate(url, folder), range(4)))
    assert sorted(itertools.chain(*applied)) == sorted(
        path.name for path in folder.iterdir()
    )
