"""People who can sign in to the local stack."""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import psycopg

INSERT = Path(__file__).with_suffix(".sql")


@dataclass(frozen=True)
class DemoUser:
    """Somebody in `auth.users`; the password is for sign-in forms."""

    id: UUID
    email: str
    name: str
    password: str = "password"  # noqa: S105  # a demo's


ADA = DemoUser(UUID("ada00000-0000-4000-8000-000000000001"), "ada@example.com", "Ada")
BEN = DemoUser(UUID("be000000-0000-4000-8000-000000000002"), "ben@example.com", "Ben")
DEMO_USERS = (ADA, BEN)


def add_demo_users(
    url: str,
    users: Iterable[DemoUser] = DEMO_USERS,
    *,
    with_known_password: bool = True,
) -> None:
    """Add users as Supabase Auth would have, their addresses confirmed; once each.

    Where others can reach the sign-in form, a known password would let them in.
    """
    rows = [vars(user) for user in users]
    if not with_known_password:
        rows = [row | {"password": secrets.token_urlsafe(32)} for row in rows]
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.executemany(INSERT.read_bytes(), rows)
