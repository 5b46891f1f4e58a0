"""Whom a meeting is with: found by reference, by address, or made; once."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from tests.support.bookings import Bookings, booking, next_week
from tests.support.builders import make_connection, make_organization
from tests.support.events import Calendar, make_event
from tests.support.eventually import eventually
from tests.support.pipeline import make_client
from tests.support.sessions import Connection

Connect = Callable[..., Awaitable[Connection]]

SOMEBODY_WAITS = """
select exists (
  select 1 from pg_stat_activity
  where datname = current_database() and wait_event_type = 'Lock'
)
"""


def guest(email: str, **fields: Any) -> dict[str, Any]:
    return {"email": email, "name": None, "response": "accepted", **fields}


async def clients(database: Connection) -> list[asyncpg.Record]:
    return await database.fetch("select * from public.clients order by email, id")


async def with_whom(database: Connection) -> list[UUID | None]:
    """The client of each meeting, by title."""
    rows = await database.fetch(
        "select client_id from public.meetings where merged_into is null order by title"
    )
    return [row["client_id"] for row in rows]


async def addresses(database: Connection) -> list[str | None]:
    return [client["email"] for client in await clients(database)]


# By address.


@pytest.mark.parametrize("told", ["guest@example.net", " Guest@Example.NET "])
async def test_a_client_is_found_by_address_however_it_is_written(
    calendar: Calendar, database: Connection, told: str
) -> None:
    known = await make_client(
        database, calendar.organization_id, email="guest@example.net"
    )
    await calendar.apply(make_event("a", attendees=[guest(told)]))
    assert await with_whom(database) == [known]
    assert len(await clients(database)) == 1


async def test_addresses_with_and_without_a_plus_are_two_people(
    calendar: Calendar, database: Connection
) -> None:
    told = ["ada@example.net", "ada+dog@example.net", "a.da@example.net"]
    await calendar.apply(
        *[make_event(one, title=one, attendees=[guest(one)]) for one in told]
    )
    assert await addresses(database) == sorted(told)
    assert len(set(await with_whom(database))) == 3


async def test_the_same_address_in_another_organization_is_another_client(
    calendar: Calendar, database: Connection
) -> None:
    other = await make_organization(database)
    theirs = await make_client(database, other, email="guest@example.net", phone="1")
    await calendar.apply(make_event("a", attendees=[guest("guest@example.net")]))
    (found,) = await with_whom(database)
    assert found
    assert found != theirs


# Who is none.


async def test_the_first_guest_is_the_client_and_a_thousand_more_are_none(
    calendar: Calendar, database: Connection
) -> None:
    crowd = [guest(f"g{n:04}@example.net") for n in range(1000, 0, -1)]
    await calendar.apply(make_event("a", attendees=crowd))
    assert await addresses(database) == ["g1000@example.net"]


@pytest.mark.parametrize(
    "attendee",
    [
        guest("room-2@resource.calendar.google.com", resource=True),
        guest("ada@example.org", self=True),
        guest("bob@example.org"),
        guest("boss@example.org", organizer=True),
        guest(""),
    ],
    ids=["room", "account", "another account", "organizer", "no address"],
)
async def test_rooms_organizers_and_own_accounts_are_nobodys_client(
    calendar: Calendar, database: Connection, attendee: dict[str, Any]
) -> None:
    await make_connection(
        database, calendar.organization_id, account_email="bob@example.org"
    )
    await calendar.apply(make_event("a", attendees=[attendee]))
    assert await clients(database) == []
    await calendar.apply(
        make_event("b", attendees=[attendee, guest("guest@example.net")])
    )
    assert await addresses(database) == ["guest@example.net"]


async def test_an_organizations_own_address_is_no_client_of_a_booking_either(
    bookings: Bookings, database: Connection
) -> None:
    await bookings.tell(booking("b1", attendee_email="Host@example.com"))
    assert await clients(database) == []


async def test_what_becomes_no_meeting_makes_no_client(
    calendar: Calendar, database: Connection
) -> None:
    await calendar.apply(
        make_event("a", attendees=[guest("a@example.net")], own_response="declined"),
        make_event("b", attendees=[guest("b@example.net")], visibility="private"),
    )
    assert await clients(database) == []


# What is filled.


async def test_name_and_phone_are_filled_where_they_are_empty(
    bookings: Bookings, database: Connection
) -> None:
    await make_client(database, bookings.organization_id, email="mira@example.com")
    await bookings.tell(
        booking(
            "b1",
            attendee_email="mira@example.com",
            attendee_name="Mira",
            attendee_phone="+44 1",
        )
    )
    (client,) = await clients(database)
    assert (client["name"], client["phone"]) == ("Mira", "+44 1")


async def test_what_a_user_wrote_of_a_client_stays(
    bookings: Bookings, database: Connection
) -> None:
    await bookings.tell(booking("b1", attendee_email="mira@example.com"))
    await database.execute("update public.clients set name = 'Mira O.', phone = '+1'")
    written = "select xmin, ctid from public.clients"
    before = await database.fetch(written)
    await bookings.tell(
        booking(
            "b2",
            attendee_email="mira@example.com",
            attendee_name="mira",
            attendee_phone="+44 1",
        )
    )
    (client,) = await clients(database)
    assert (client["name"], client["phone"]) == ("Mira O.", "+1")
    assert await database.fetch(written) == before


async def test_a_meeting_that_a_user_gave_to_somebody_stays_theirs(
    calendar: Calendar, database: Connection
) -> None:
    people = [guest("guest@example.net")]
    await calendar.apply(make_event("a", attendees=people))
    other = await make_client(database, calendar.organization_id)
    await database.execute("update public.meetings set client_id = $1", other)
    await calendar.apply(make_event("a", attendees=people, title="New"))
    assert await with_whom(database) == [other]


# By reference.


@pytest.fixture
async def bookings(database: Connection, worker: Connection) -> Bookings:
    """Bookings whose metadata has the clinic's own ids."""
    made = await Bookings.create(database, worker)
    await map_keys(database, made, clinicClientId="clinic")
    return made


async def map_keys(database: Connection, bookings: Bookings, **references: str) -> None:
    for key, reference in references.items():
        await database.execute(
            """
            insert into public.reference_mappings
              (connection_id, organization_id, metadata_key, reference)
            values ($1, $2, $3, $4)
            """,
            bookings.connection_id,
            bookings.organization_id,
            key,
            reference,
        )


def referring(key: str, value: object, **fields: Any) -> Any:
    """A booking whose metadata has the clinic's id of its client."""
    return booking(
        key, **{"title": key, "metadata": {"clinicClientId": value}, **fields}
    )


async def refs(database: Connection, client: UUID) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        await database.fetchval(
            "select external_refs from public.clients where id = $1", client
        )
    )
    return found


async def open_alerts(database: Connection) -> list[asyncpg.Record]:
    return await database.fetch(
        "select * from public.sync_alerts where resolved_at is null"
    )


@pytest.mark.parametrize("kept", ['"17"', "17"])
async def test_a_client_is_found_by_reference_before_their_address(
    bookings: Bookings, database: Connection, kept: str
) -> None:
    here = bookings.organization_id
    meant = await make_client(
        database, here, email="mira@work.example", external_refs=f'{{"clinic": {kept}}}'
    )
    await make_client(database, here, email="mira@home.example")
    await bookings.tell(referring("b1", "17", attendee_email="mira@home.example"))
    assert await with_whom(database) == [meant]
    (meeting,) = await database.fetch("select * from public.meetings")
    assert meeting["attendee_email"] == "mira@home.example"
    assert await addresses(database) == ["mira@home.example", "mira@work.example"]


async def test_a_reference_that_nobody_has_is_kept_for_the_next_booking(
    bookings: Bookings, database: Connection
) -> None:
    await bookings.tell(referring("b1", "17", attendee_email="mira@home.example"))
    (client,) = await clients(database)
    assert await refs(database, client["id"]) == {"clinic": "17"}
    await bookings.tell(referring("b2", "17", attendee_email="mira@work.example"))
    assert await with_whom(database) == [client["id"]] * 2
    assert len(await clients(database)) == 1


async def test_a_reference_that_stands_there_stays(
    bookings: Bookings, database: Connection
) -> None:
    client = await make_client(
        database,
        bookings.organization_id,
        email="mira@example.com",
        external_refs='{"clinic": "16"}',
    )
    await bookings.tell(referring("b1", "17", attendee_email="mira@example.com"))
    assert await with_whom(database) == [client]
    assert await refs(database, client) == {"clinic": "16"}


async def test_a_client_known_by_reference_gets_the_address_they_lack(
    bookings: Bookings, database: Connection
) -> None:
    client = await make_client(
        database,
        bookings.organization_id,
        external_refs='{"clinic": "17"}',
    )
    await bookings.tell(referring("b1", "17", attendee_email="mira@example.com"))
    assert await with_whom(database) == [client]
    (row,) = await clients(database)
    assert (row["email"], row["name"]) == ("mira@example.com", "Mira Ostrow")


async def test_somebody_without_an_address_is_one_client_by_their_reference(
    bookings: Bookings, database: Connection
) -> None:
    for n in range(2):
        await bookings.tell(referring(f"b{n}", "17", attendee_email=None))
    (client,) = await clients(database)
    assert client["email"] is None
    assert await with_whom(database) == [client["id"]] * 2


async def test_a_new_reference_told_twice_at_once_is_one_client(
    bookings: Bookings, database: Connection
) -> None:
    await bookings.tell(
        referring("b1", "17", attendee_email="mira@home.example"),
        referring("b2", "17", attendee_email="mira@work.example"),
        referring("b3", "17", attendee_email=None),
    )
    (client,) = await clients(database)
    assert await with_whom(database) == [client["id"]] * 3


async def test_a_clients_own_id_is_a_reference_too(
    bookings: Bookings, database: Connection
) -> None:
    client = await make_client(
        database, bookings.organization_id, email="mira@work.example"
    )
    await bookings.tell(
        referring("b1", str(client), attendee_email="mira@home.example")
    )
    assert await with_whom(database) == [client]
    assert await refs(database, client) == {}


async def test_the_first_mapping_that_finds_somebody_counts(
    bookings: Bookings, database: Connection
) -> None:
    await map_keys(database, bookings, petId="pet")
    here = bookings.organization_id
    client = await make_client(database, here, external_refs='{"clinic": "17"}')
    owner = await make_client(database, here, external_refs='{"pet": "p1"}')
    await bookings.tell(
        booking("b1", title="1", metadata={"clinicClientId": "17", "petId": "p1"}),
        booking("b2", title="2", metadata={"clinicClientId": "?", "petId": "p1"}),
    )
    assert await with_whom(database) == [client, owner]
    assert await refs(database, client) == {"clinic": "17"}
    assert await refs(database, owner) == {"clinic": "?", "pet": "p1"}


@pytest.mark.parametrize("told", [None, "", "  ", "x" * 201])
async def test_a_reference_that_says_nothing_is_none(
    bookings: Bookings, database: Connection, told: str | None
) -> None:
    await bookings.tell(referring("b1", told or ""))
    (client,) = await clients(database)
    assert await refs(database, client["id"]) == {}


async def test_a_key_that_no_mapping_names_means_nothing(
    bookings: Bookings, database: Connection
) -> None:
    await make_client(
        database, bookings.organization_id, external_refs='{"clinic": "17"}'
    )
    await bookings.tell(booking("b1", metadata={"clinic": "17"}))
    assert len(await clients(database)) == 2


# Of another organization.


@pytest.mark.parametrize("by", ["reference", "id"])
async def test_another_organizations_client_is_not_linked_and_raises_an_alert(
    bookings: Bookings, database: Connection, by: str
) -> None:
    other = await make_organization(database, name="The other one")
    theirs = await make_client(
        database, other, email="x@example.com", external_refs='{"clinic": "17"}'
    )
    told = "17" if by == "reference" else str(theirs)
    await bookings.tell(referring("b1", told, attendee_email="mira@example.com"))
    mine = await database.fetchrow(
        "select * from public.clients where organization_id = $1",
        bookings.organization_id,
    )
    assert mine is not None
    assert await with_whom(database) == [mine["id"]]
    assert (mine["email"], mine["external_refs"]) == ("mira@example.com", "{}")
    assert await refs(database, theirs) == {"clinic": "17"}
    (alert,) = await open_alerts(database)
    assert alert["kind"] == "foreign_reference"
    assert alert["organization_id"] == bookings.organization_id
    assert alert["subject_id"] == bookings.connection_id
    said = alert["message"] + alert["remedy"]
    assert "clinicClientId" in said
    for secret in (told, str(other), str(theirs), "The other one", "x@example.com"):
        assert secret not in said


async def test_the_alert_is_over_when_bookings_name_own_clients_again(
    bookings: Bookings, database: Connection
) -> None:
    other = await make_organization(database)
    await make_client(database, other, external_refs='{"clinic": "17"}')
    await bookings.tell(referring("b1", "17"))
    assert len(await open_alerts(database)) == 1
    await bookings.tell(referring("b2", "18", attendee_email="ann@example.com"))
    assert await open_alerts(database) == []


async def test_a_reference_that_two_organizations_have_means_ones_own_client(
    bookings: Bookings, database: Connection
) -> None:
    other = await make_organization(database)
    await make_client(database, other, external_refs='{"clinic": "17"}')
    own = await make_client(
        database, bookings.organization_id, external_refs='{"clinic": "17"}'
    )
    await bookings.tell(referring("b1", "17"))
    assert await with_whom(database) == [own]
    assert await open_alerts(database) == []


# At the same time.


@pytest.fixture
async def other(calendar: Calendar, database: Connection, connect: Connect) -> Calendar:
    """A colleague's calendar, pulled by another worker."""
    return await Calendar.create(
        database,
        await connect(role="sync_worker"),
        organization_id=calendar.organization_id,
        account_email="bob@example.org",
    )


async def test_two_who_meet_the_same_people_at_once_make_each_once(
    calendar: Calendar, other: Calendar, database: Connection
) -> None:
    for round_ in range(8):
        people = [f"g{round_}-{n}@example.net" for n in range(30)]
        await asyncio.gather(
            calendar.apply(
                *[make_event(f"a{one}", attendees=[guest(one)]) for one in people]
            ),
            other.apply(
                *[
                    make_event(f"b{one}", attendees=[guest(one, name=one)])
                    for one in reversed(people)
                ]
            ),
        )
    assert len(await clients(database)) == 8 * 30
    assert None not in await with_whom(database)


async def test_who_waits_for_a_client_that_another_makes_finds_them(
    calendar: Calendar, other: Calendar, database: Connection, connect: Connect
) -> None:
    people = [guest("guest@example.net")]
    first = await connect(role="sync_worker")
    transaction = first.transaction()
    await transaction.start()
    await calendar.apply(make_event("a", attendees=people), on=first)
    second = asyncio.create_task(other.apply(make_event("b", attendees=people)))
    await eventually(lambda: database.fetchval(SOMEBODY_WAITS))
    await transaction.commit()
    await second
    (client,) = await clients(database)
    assert await with_whom(database) == [client["id"]] * 2


async def test_two_connections_that_bring_a_new_reference_make_one_client(
    bookings: Bookings, database: Connection, connect: Connect
) -> None:
    more = await Bookings.create(
        database,
        await connect(role="sync_worker"),
        organization_id=bookings.organization_id,
        account_email="second@example.com",
    )
    await map_keys(database, more, patient="clinic")
    for n in range(8):
        await asyncio.gather(
            bookings.tell(referring(f"a{n}", str(n), attendee_email=f"a{n}@x.example")),
            more.tell(
                booking(
                    f"b{n}",
                    attendee_email=f"b{n}@x.example",
                    metadata={"patient": str(n)},
                )
            ),
        )
    assert len(await clients(database)) == 8


async def test_a_user_who_makes_the_same_client_meanwhile_is_found(
    calendar: Calendar, database: Connection, connect: Connect
) -> None:
    user = await connect()
    transaction = user.transaction()
    await transaction.start()
    known = await make_client(
        user, calendar.organization_id, email="guest@example.net", name="Mine"
    )
    applying = asyncio.create_task(
        calendar.apply(
            make_event("a", attendees=[guest("guest@example.net", name="Theirs")])
        )
    )
    await eventually(lambda: database.fetchval(SOMEBODY_WAITS))
    await transaction.commit()
    await applying
    assert await with_whom(database) == [known]
    (client,) = await clients(database)
    assert client["name"] == "Mine"


# What it costs.


async def test_references_are_looked_up_by_index(
    bookings: Bookings, database: Connection
) -> None:
    await database.execute(
        """
        insert into public.clients (organization_id, email, external_refs)
        select $1, 'c' || n || '@example.com', jsonb_build_object('clinic', n::text)
        from generate_series(1, 20000) as n
        """,
        bookings.organization_id,
    )
    await database.execute("analyze public.clients")
    reads = "select pg_stat_get_xact_tuples_returned('public.clients'::regclass)"
    async with database.transaction():
        await database.execute("set local role sync_worker")
        before = await database.fetchval(reads)
        await bookings.tell(referring("b1", "17", starts_at=next_week()), on=database)
        assert await database.fetchval(reads) - before < 100
