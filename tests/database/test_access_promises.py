"""What no combination of rights may lead to."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

import asyncpg
import pytest

from tests.support.builders import add_member, make_user
from tests.support.sessions import Connection
from tests.support.tenants import Tenant, acting, make_tenant

Connect = Callable[..., Awaitable[Connection]]


@pytest.fixture
async def mine(database: Connection) -> Tenant:
    return await make_tenant(database)


@pytest.fixture
async def theirs(database: Connection) -> Tenant:
    return await make_tenant(database)


@pytest.fixture
async def api(connect: Connect) -> Connection:
    return await connect(login="authenticator")


async def role_of(database: Connection, user: UUID) -> str | None:
    role: str | None = await database.fetchval(
        "select role from public.organization_members where user_id = $1", user
    )
    return role


async def set_role(api: Connection, user: UUID, role: str) -> str:
    status: str = await api.execute(
        "update public.organization_members set role = $2 where user_id = $1",
        user,
        role,
    )
    return status


@pytest.mark.parametrize("table", ["clients", "meetings", "pipeline_rules"])
async def test_nobody_moves_a_row_to_another_organization_not_even_their_own(
    database: Connection, mine: Tenant, theirs: Tenant, api: Connection, table: str
) -> None:
    await add_member(database, theirs.id, mine.owner, role="owner")

    async with acting(api, mine.owner):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await api.execute(
                f"update public.{table} set organization_id = $1", theirs.id
            )


@pytest.mark.parametrize("link", ["client_id", "calendar_id"])
async def test_a_meeting_takes_no_other_organizations_client_or_calendar(
    database: Connection, mine: Tenant, theirs: Tenant, api: Connection, link: str
) -> None:
    # Even for somebody who sees both organizations.
    await add_member(database, theirs.id, mine.owner, role="owner")
    foreign = {"client_id": theirs.client, "calendar_id": theirs.calendar}[link]

    async with acting(api, mine.owner):
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await api.execute(
                f"""
                insert into public.meetings
                  (organization_id, {link}, title, starts_at, ends_at)
                values ($1, $2, 'Visit', now(), now())
                """,
                mine.id,
                foreign,
            )


async def test_a_meeting_cannot_be_given_another_organizations_client(
    database: Connection, mine: Tenant, theirs: Tenant, api: Connection
) -> None:
    await add_member(database, theirs.id, mine.owner, role="owner")

    async with acting(api, mine.owner):
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await api.execute(
                "update public.meetings set client_id = $2 where id = $1",
                mine.meeting,
                theirs.client,
            )


async def test_a_reference_mapping_takes_no_other_organizations_connection(
    mine: Tenant, theirs: Tenant, api: Connection
) -> None:
    async with acting(api, mine.owner):
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await api.execute(
                """
                insert into public.reference_mappings
                  (connection_id, organization_id, metadata_key, reference)
                values ($1, $2, 'key', 'crm')
                """,
                theirs.connection,
                mine.id,
            )


async def test_an_admin_neither_makes_nor_unmakes_owners(
    mine: Tenant, api: Connection
) -> None:
    async with acting(api, mine.admin):
        assert await set_role(api, mine.owner, "member") == "UPDATE 0"
        deleted = await api.execute(
            "delete from public.organization_members where user_id = $1", mine.owner
        )
        assert deleted == "DELETE 0"
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await set_role(api, mine.admin, "owner")


async def test_an_owner_makes_another_owner_and_may_leave_then(
    mine: Tenant, api: Connection
) -> None:
    async with acting(api, mine.owner):
        assert await set_role(api, mine.admin, "owner") == "UPDATE 1"
        left = await api.execute(
            "delete from public.organization_members where user_id = $1", mine.owner
        )
        assert left == "DELETE 1"


@pytest.mark.parametrize(
    "statement",
    [
        "update public.organization_members set role = 'admin' where user_id = $1",
        "delete from public.organization_members where user_id = $1",
    ],
)
async def test_the_last_owner_stays(
    mine: Tenant, api: Connection, statement: str
) -> None:
    async with acting(api, mine.owner):
        with pytest.raises(asyncpg.PostgresError) as refusal:
            await api.execute(statement, mine.owner)

    assert refusal.value.sqlstate == "CS021"


LEAVE = "delete from public.organization_members where user_id = $1"


async def test_who_was_left_alone_with_an_organization_that_syncs_nothing_may_leave_it(
    database: Connection, mine: Tenant, api: Connection
) -> None:
    # Anybody can be made an owner, and whoever did that may leave.
    others = [user for user in mine.people.values() if user != mine.owner]
    await database.execute("update public.calendar_connections set status = 'revoked'")

    async with acting(api, mine.owner):
        await api.execute(
            "delete from public.organization_members where user_id = any ($1)", others
        )
        assert await api.execute(LEAVE, mine.owner) == "DELETE 1"


async def test_the_last_owner_stays_while_an_account_is_connected(
    mine: Tenant, api: Connection
) -> None:
    others = [user for user in mine.people.values() if user != mine.owner]

    async with acting(api, mine.owner):
        await api.execute(
            "delete from public.organization_members where user_id = any ($1)", others
        )
        with pytest.raises(asyncpg.PostgresError, match="at least one owner"):
            await api.execute(LEAVE, mine.owner)


async def test_two_owners_who_remove_each_other_leave_one(
    database: Connection, mine: Tenant, connect: Connect
) -> None:
    await database.execute(
        "update public.organization_members set role = 'owner' where user_id = $1",
        mine.admin,
    )
    one, other = await connect(), await connect()
    remove = "delete from public.organization_members where user_id = $1"

    async with one.transaction():
        await one.execute(remove, mine.admin)
        waiting = asyncio.create_task(other.execute(remove, mine.owner))
        _, still = await asyncio.wait({waiting}, timeout=0.2)
        assert still
    with pytest.raises(asyncpg.PostgresError) as refusal:
        await waiting

    assert refusal.value.sqlstate == "CS021"
    assert await role_of(database, mine.owner) == "owner"


async def test_an_account_can_be_deleted_even_if_it_is_the_last_owner(
    database: Connection, mine: Tenant
) -> None:
    await database.execute("delete from auth.users where id = $1", mine.owner)

    assert await role_of(database, mine.owner) is None


async def test_an_organization_is_deleted_whole(
    database: Connection, mine: Tenant, connect: Connect
) -> None:
    service = await connect(role="service_role")

    await service.execute("delete from public.organizations where id = $1", mine.id)

    assert await database.fetchval("select count(*) from public.meetings") == 0
    assert await database.fetchval("select count(*) from public.calendar_events") == 0


async def test_a_connection_is_deleted_without_the_meetings_that_came_by_it(
    database: Connection, mine: Tenant
) -> None:
    await database.execute("set role sync_engine")
    await database.execute("update public.meetings set event_id = $1", mine.event)
    await database.execute("reset role")

    await database.execute("delete from public.calendar_connections")

    meeting = await database.fetchrow("select * from public.meetings")
    assert meeting is not None
    assert meeting["id"] == mine.meeting
    assert (meeting["calendar_id"], meeting["event_id"]) == (None, None)
    assert meeting["sync_state"] == "local"


async def test_a_client_is_deleted_without_their_meetings(
    database: Connection, mine: Tenant
) -> None:
    await database.execute("delete from public.clients")

    assert await database.fetchval("select client_id from public.meetings") is None


async def test_who_left_an_organization_keeps_no_right_on_the_account_they_linked(
    database: Connection, mine: Tenant, api: Connection
) -> None:
    await database.execute(
        "delete from public.organization_members where user_id = $1", mine.linker
    )

    async with acting(api, mine.linker):
        details = await api.fetchval(
            "select count(*) from public.private_event_details"
        )
        assert details == 0
        switched = await api.execute("update public.calendars set sync_enabled = false")
        assert switched == "UPDATE 0"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("poll_every", "1 microsecond"),
        ("poll_every", "59 seconds"),
        ("poll_every", "100000 years"),
        ("window_past", "7000 years"),
        ("window_past", "-1 day"),
        ("window_future", "9000 years"),
        ("renew_before", "-1 hour"),
        ("channel_lifetime", "-1 hour"),
        ("channel_lifetime", "100 years"),
    ],
)
async def test_a_calendar_takes_no_setting_that_its_worker_cannot_follow(
    mine: Tenant, api: Connection, column: str, value: str
) -> None:
    async with acting(api, mine.owner):
        with pytest.raises(asyncpg.CheckViolationError):
            await api.execute(
                f"update public.calendars set {column} = $1::text::interval", value
            )


@pytest.mark.parametrize("status", ["needs_reauth", "revoked"])
async def test_a_connection_whose_grant_is_gone_is_not_resumed_by_a_click(
    database: Connection, mine: Tenant, api: Connection, status: str
) -> None:
    await database.execute("update public.calendar_connections set status = $1", status)

    async with acting(api, mine.owner):
        resumed = await api.execute(
            "update public.calendar_connections set status = 'active'"
        )

    assert resumed == "UPDATE 0"


async def test_a_user_declares_no_connection_revoked(
    mine: Tenant, api: Connection
) -> None:
    async with acting(api, mine.owner):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await api.execute(
                "update public.calendar_connections set status = 'revoked'"
            )


async def test_a_stage_that_a_user_sets_is_noted_as_theirs(
    mine: Tenant, api: Connection
) -> None:
    async with acting(api, mine.member):
        await api.execute("update public.pipeline set stage = 'regular'")
        assert await api.fetchval("select stage_set_by from public.pipeline") == "user"


async def test_a_stage_that_the_engine_moves_stays_the_rules(
    database: Connection, mine: Tenant
) -> None:
    async with acting(database, None, role="sync_engine"):
        await database.execute("update public.pipeline set stage = 'met'")
        assert (
            await database.fetchval(
                "select stage_set_by from public.pipeline where client_id = $1",
                mine.client,
            )
            == "rule"
        )


async def test_a_write_that_changes_nothing_leaves_the_row_as_it_was(
    database: Connection, mine: Tenant, api: Connection
) -> None:
    look = "select updated_at from public.meetings where id = $1"
    before = await database.fetchval(look, mine.meeting)

    async with acting(api, mine.member):
        written = await api.execute("update public.meetings set title = title")
        assert written == "UPDATE 1"
        assert await api.fetchval(look, mine.meeting) == before


async def test_a_token_that_names_nobody_sees_nothing(
    mine: Tenant, api: Connection
) -> None:
    async with acting(api, None):
        assert await api.fetchval("select count(*) from public.meetings") == 0


async def test_a_sign_up_gets_a_personal_organization_of_its_own(
    database: Connection, api: Connection
) -> None:
    user = await make_user(database)

    async with acting(api, user):
        seen = await api.fetch("select id from public.organizations")
        assert len(seen) == 1
