"""Semicolons end a statement only where Postgres says so."""

import pytest

from local_stack.statements import Statement, split


def texts(script: str) -> list[str]:
    return [statement.text for statement in split(script)]


@pytest.mark.parametrize(
    "statement",
    [
        "select 'a;b', 'it''s;'",
        r"select e'it\'s; fine', e'\\'",
        'select 1 as "a;""b"',
        "do $$ begin perform 1; end $$",
        "do $body$ begin execute $$ select 1; $$; end $body$",
        "-- a comment; with one\nselect 1",
        "/* one; /* two; */ three; */ select 1",
        "create rule r as on insert to a do also (select 1; select 2)",
        "create function f() returns int language sql begin atomic select 1; end",
        "create procedure p() begin atomic select case when true then 1 end; end",
        'create table "begin atomic" (id int)',
        "select prépaid$1 from t where a$b = $1",
    ],
)
def test_a_semicolon_within_a_statement_does_not_end_it(statement: str) -> None:
    assert texts(f"select 0; {statement} ; select 9;") == [
        "select 0",
        statement,
        "select 9",
    ]


def test_an_empty_statement_is_none() -> None:
    assert texts(";; \n ; select 1;\n\n") == ["select 1"]


def test_begin_is_a_body_only_after_atomic() -> None:
    assert texts("begin; create function f() returns int return 1; end;") == [
        "begin",
        "create function f() returns int return 1",
        "end",
    ]


def test_what_is_left_open_ends_with_the_file() -> None:
    for script in ("select 'a; b", "do $$ a; b", "/* a; b", 'select "a; b'):
        assert len(texts(script)) <= 2


def test_a_statement_knows_its_line() -> None:
    script = "select 1;\n\n-- why\nselect 2;\nselect\n  3;"
    assert [(s.line, s.code) for s in split(script)] == [
        (1, "select 1"),
        (3, "select 2"),
        (5, "select\n  3"),
    ]


def test_the_code_of_a_statement_leaves_out_what_leads_it() -> None:
    assert Statement("-- a; b\n/* c */ select 1 -- d", 1).code == "select 1 -- d"
