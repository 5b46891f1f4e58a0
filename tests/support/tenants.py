"""Two organizations with a row in every table, and a way to act as their people."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID, uuid4

from tests.support.builders import add_member, make_user
from tests.support.sessions import Connection


@dataclass(frozen=True)
class Tenant:
    """An organization, its people, and the ids of its rows."""

    id: UUID
    owner: UUID
    admin: UUID
    linker: UUID
    """A plain member who linked the connection."""
    member: UUID
    connection: UUID
    calendar: UUID
    channel: UUID
    event: UUID
    client: UUID
    meeting: UUID
    stranger: UUID
    """A user of no organization."""

    @property
    def people(self) -> dict[str, UUID]:
        return {
            "owner": self.owner,
            "admin": self.admin,
            "linker": self.linker,
            "member": self.member,
        }


ROWS = """
insert into public.calendar_connections
  (id, organization_id, owner_id, provider, account_email)
values ('{connection}', '{id}', '{linker}', 'google', '{linker}@example.com');
insert into public.calendars
  (id, connection_id, organization_id, provider_calendar_id, name, sync_enabled)
values ('{calendar}', '{connection}', '{id}', '{calendar}@example.com', 'Work', true);
insert into public.calendar_watch_channels (id, calendar_id, organization_id, status)
values ('{channel}', '{calendar}', '{id}', 'failed');
insert into public.clients (id, organization_id, email, name)
values ('{client}', '{id}', '{client}@example.com', 'Client');
insert into public.meetings
  (id, organization_id, client_id, calendar_id, title, starts_at, ends_at)
values ('{meeting}', '{id}', '{client}', '{calendar}', 'Visit', now(), now());
insert into public.calendar_events
  (id, calendar_id, organization_id, provider_event_id, role, status, content_hash,
   starts_at, ends_at, visibility, meeting_id)
values
  ('{event}', '{calendar}', '{id}', 'event', 'single', 'confirmed', '\\x00',
   now(), now(), 'private', '{meeting}');
insert into public.private_event_details (event_id, title) values ('{event}', 'Secret');
insert into public.pipeline (client_id, organization_id) values ('{client}', '{id}')
on conflict do nothing;
delete from public.pipeline_rules where organization_id = '{id}'; -- it begins with some
insert into public.pipeline_rules (organization_id, happening, to_stage)
values ('{id}', 'met', 'known');
insert into public.reference_mappings
  (connection_id, organization_id, metadata_key, reference)
values ('{connection}', '{id}', 'patient', 'ehr');
insert into public.sync_conflicts (organization_id, meeting_id, field, reason)
values ('{id}', '{meeting}', 'title', 'both changed it');
insert into public.sync_alerts (organization_id, kind, subject_id, message, remedy)
values ('{id}', 'test', '{calendar}', 'Something is wrong.', 'Mend it.');
insert into sync.webhook_deliveries
  (received_at, provider, kind, organization_id, connection_id, channel_id)
values (now(), 'google', 'change', '{id}', '{connection}', '{channel}');
insert into sync.runs
  (started_at, finished_at, due_at, task_id, kind, subject_id, connection_id, lane,
   attempt, outcome)
values (now(), now(), now(), 0, 'pull', '{calendar}', '{connection}', 1, 1, 'done');
"""


async def make_tenant(database: Connection) -> Tenant:
    """An organization with an owner, an admin, two members and a row in every table."""
    people = [await make_user(database) for _ in range(5)]
    owner, admin, linker, member, stranger = people
    # Personal organizations would be counted too.
    await database.execute(
        """
        delete from public.organizations as organization
        using public.organization_members as member
        where member.organization_id = organization.id
          and member.user_id = any ($1::uuid[])
        """,
        people,
    )
    names = ("id", "connection", "calendar", "channel", "event", "client", "meeting")
    tenant = Tenant(
        owner=owner,
        admin=admin,
        linker=linker,
        member=member,
        stranger=stranger,
        **{name: uuid4() for name in names},
    )
    await database.execute(
        "insert into public.organizations (id, name) values ($1, 'Tenant')", tenant.id
    )
    for role, user in tenant.people.items():
        await add_member(
            database, tenant.id, user, role=role if role != "linker" else "member"
        )
    await database.execute(ROWS.format(**vars(tenant)))
    return tenant


@asynccontextmanager
async def acting(
    connection: Connection, user: UUID | None, *, role: str = "authenticated"
) -> AsyncIterator[Connection]:
    """A transaction as the API makes it for a user, undone at its end."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        claims = {"role": role} | ({"sub": str(user)} if user else {})
        await connection.execute(f'set local role "{role}"')
        await connection.execute(
            "select set_config('request.jwt.claims', $1, true)", json.dumps(claims)
        )
        yield connection
    finally:
        await transaction.rollback()
