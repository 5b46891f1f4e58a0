"""`supacal dev` on a Supabase that settings name, in the place of one of its own."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from local_stack.demo_users import ADA
from local_stack.state import State
from local_stack.supabase import OwnSupabase, Supabase
from tests.support.stacks import environment, running, supacal


@pytest.fixture
async def given(scratch: Path) -> AsyncIterator[Supabase]:
    """A Supabase without a receiver and a worker, as `supabase start` makes one."""
    async with bare_supabase(scratch / "given") as supabase:
        yield supabase


@asynccontextmanager
async def bare_supabase(directory: Path) -> AsyncIterator[Supabase]:
    with State(directory) as state:
        own = OwnSupabase(state, postgres_dir=None, say=lambda _: None)
        try:
            yield await own.start()
        finally:
            await own.stop()


def pointing_to(supabase: Supabase, state: Path) -> dict[str, str]:
    return environment(
        state,
        DATABASE_URL=supabase.database_url,
        SUPABASE_URL=supabase.url,
        SUPABASE_ANON_KEY=supabase.anon_key,
        SUPABASE_SERVICE_ROLE_KEY=supabase.service_role_key,
        SUPABASE_JWT_SECRET=supabase.jwt_secret,
        SUPACAL_SHARED="/nowhere",
    )


async def test_the_tour_works_on_a_given_supabase_and_starts_no_second_one(
    given: Supabase, scratch: Path
) -> None:
    environ = pointing_to(given, scratch / "state")
    toured = await in_thread(environ, "dev", "--tour", "--exit")
    assert toured.returncode == 0, toured.stdout + toured.stderr
    assert f"Using the Supabase at {given.url}." in toured.stdout
    assert "All of it happened" in toured.stdout
    assert not (scratch / "state" / "postgres").exists()


async def test_the_facts_are_those_of_the_given_supabase(
    given: Supabase, scratch: Path
) -> None:
    def facts() -> dict[str, object]:
        environ = pointing_to(given, scratch / "state")
        with running(environ, scratch) as dev:
            return dev.facts

    told = await asyncio.to_thread(facts)
    assert told["supabase_url"] == given.url
    assert told["database_url"] == given.database_url
    assert told["anon_key"] == given.anon_key


async def test_no_password_that_all_know_is_left_on_a_given_supabase(
    given: Supabase, scratch: Path
) -> None:
    environ = pointing_to(given, scratch / "state")
    started = await in_thread(environ, "dev", "--exit")
    assert started.returncode == 0, started.stderr
    with psycopg.connect(given.admin_database_url) as database:
        row = database.execute(
            "select encrypted_password = extensions.crypt('password', "
            "encrypted_password) from auth.users where id = %s",
            (ADA.id,),
        ).fetchone()
    assert row == (False,)


async def test_a_supabase_with_real_connections_is_left_alone(
    given: Supabase, scratch: Path
) -> None:
    with psycopg.connect(given.database_url) as database:
        database.execute(
            """
            with somebody as (
              insert into auth.users (id, email)
              values (gen_random_uuid(), 'real@example.com') returning id
            ), organization as (
              insert into organizations (name) values ('Real') returning id
            )
            insert into calendar_connections
              (organization_id, owner_id, provider, account_email)
            select organization.id, somebody.id, 'google', 'real@example.com'
            from somebody, organization
            """
        )
    environ = pointing_to(given, scratch / "state")
    refused = await in_thread(environ, "dev", "--exit")
    assert refused.returncode == 1
    assert "1 calendar connections that are not the demo's" in refused.stderr


async def test_a_given_supabase_that_does_not_answer_is_a_sentence(
    scratch: Path,
) -> None:
    nowhere = Supabase(
        "postgresql://postgres:secret@127.0.0.1:1/postgres",
        "",
        "http://127.0.0.1:1",
        "anon",
        "service",
        "s" * 40,
    )
    refused = await in_thread(pointing_to(nowhere, scratch / "state"), "dev", "--exit")
    assert refused.returncode == 1
    assert "DATABASE_URL" in refused.stderr
    assert "secret" not in refused.stderr
    assert "Traceback" not in refused.stderr


async def in_thread(
    environ: dict[str, str], *words: str
) -> subprocess.CompletedProcess[str]:
    """Run a command while this process goes on serving the given Supabase."""
    return await asyncio.to_thread(supacal, *words, environ=environ)
