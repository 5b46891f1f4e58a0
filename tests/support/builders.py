"""Rows that tests start from. Each builder inserts one thing and returns its id."""

from uuid import UUID, uuid4

from tests.support.sessions import Connection


async def make_user(database: Connection, *, email: str | None = None) -> UUID:
    """Somebody who signed up; the database gives them a personal organization."""
    user_id = uuid4()
    await database.execute(
        """
        insert into auth.users (id, aud, role, email, created_at, updated_at)
        values ($1, 'authenticated', 'authenticated', $2, now(), now())
        """,
        user_id,
        email or f"{user_id.hex[:8]}@example.com",
    )
    return user_id


async def organization_of(database: Connection, user_id: UUID) -> UUID:
    """The organization a user owns: the personal one, unless there are more."""
    organization_id: UUID = await database.fetchval(
        """
        select organization.id
        from public.organization_members as member
        inner join public.organizations as organization
          on organization.id = member.organization_id
        where member.user_id = $1 and member.role = 'owner'
        order by organization.created_at
        limit 1
        """,
        user_id,
    )
    return organization_id


async def make_organization(
    database: Connection,
    *,
    owner: UUID | None = None,
    name: str = "Test",
    time_zone: str = "UTC",
) -> UUID:
    """A tenant, with its owner where one is given."""
    organization_id: UUID = await database.fetchval(
        """
        insert into public.organizations (name, time_zone) values ($1, $2)
        returning id
        """,
        name,
        time_zone,
    )
    if owner:
        await add_member(database, organization_id, owner, role="owner")
    return organization_id


async def add_member(
    database: Connection, organization_id: UUID, user_id: UUID, *, role: str = "member"
) -> None:
    """Let a user into an organization."""
    await database.execute(
        """
        insert into public.organization_members (organization_id, user_id, role)
        values ($1, $2, $3)
        """,
        organization_id,
        user_id,
        role,
    )


async def make_connection(
    database: Connection,
    organization_id: UUID,
    *,
    owner: UUID | None = None,
    provider: str = "google",
    account_email: str | None = None,
    status: str = "active",
) -> UUID:
    """A linked account, without credentials."""
    connection_id: UUID = await database.fetchval(
        """
        insert into public.calendar_connections
          (organization_id, owner_id, provider, account_email, status)
        values ($1, $2, $3, $4, $5)
        returning id
        """,
        organization_id,
        owner,
        provider,
        account_email or f"{uuid4().hex[:8]}@example.com",
        status,
    )
    return connection_id


async def make_calendar(
    database: Connection,
    connection_id: UUID,
    *,
    provider_calendar_id: str | None = None,
    name: str = "Calendar",
    time_zone: str | None = "Europe/Berlin",
    sync_enabled: bool = False,
) -> UUID:
    """A calendar of a connection, switched off unless said otherwise."""
    calendar_id: UUID = await database.fetchval(
        """
        insert into public.calendars
          (connection_id, organization_id, provider_calendar_id, name, time_zone,
           sync_enabled)
        select connection.id, connection.organization_id, $2, $3, $4, $5
        from public.calendar_connections as connection
        where connection.id = $1
        returning id
        """,
        connection_id,
        provider_calendar_id or f"{uuid4().hex[:8]}@group.calendar.google.com",
        name,
        time_zone,
        sync_enabled,
    )
    return calendar_id
