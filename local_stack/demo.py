"""What there is to see at once: users who can sign in, and calendars with events."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import psycopg

from local_stack.demo_users import ADA, DEMO_USERS, DemoUser, add_demo_users
from local_stack.errors import StackError
from local_stack.facts import User
from local_stack.tokens import user_token
from local_stack.twins.google import Account, Calendar, GoogleTwin
from providers.model import Provider, StoredTokens
from runtime.sealing import Keyring

HERE = Path(__file__).parent
OWN_CALENDARS = HERE.parent / "tests" / "data" / "calendars"
# Calendars that clubs really kept; where they are not at hand, ours do as well.
REAL_CALENDARS = ("machbar_16_feb_2019.ics", "fablab_cottbus.ics")


@dataclass(frozen=True)
class Demo:
    """Fills a twin, and connects a demo user to it."""

    database_url: str
    keyring: Keyring
    jwt_secret: str
    auth_url: str
    is_local: bool = True

    def add_users(self) -> list[User]:
        """Make the demo users, and sign them in.

        Raises:
            StackError: the database is in use by others.
        """
        if not self.is_local:
            self._refuse_others()
        add_demo_users(self.database_url, with_known_password=self.is_local)
        return [self._signed_in(user) for user in DEMO_USERS]

    def connect(self, twin: GoogleTwin, shared: Path) -> UUID:
        """Connect Ada's account at a twin, and return the connection.

        A twin that knows her has just been restarted, and calendars that are switched
        on are watched and read anew. Any other is filled first.
        """
        is_new = ADA.email not in twin.store.accounts
        account = twin.account(ADA.email, name=ADA.name)
        if is_new:
            for file in calendar_files(shared):
                _fill_calendar(account, file)
        mine = [one for one in account.calendars if one.id != account.primary.id]
        connection = self._store(ADA, account, mine)
        self._wake()
        return connection

    def switch_on(self, connections: Sequence[UUID]) -> None:
        """Do what the user's click in the app does."""
        with psycopg.connect(self.database_url) as database:
            database.execute(_sql("demo_switch"), {"connections": list(connections)})

    def _refuse_others(self) -> None:
        """Our worker asks twins: about others' connections it must not."""
        ids = {"demo_users": [user.id for user in DEMO_USERS]}
        with psycopg.connect(self.database_url) as database:
            row = database.execute(_sql("others_connections"), ids).fetchone()
        if row and row[0]:
            raise StackError(
                f"The database at DATABASE_URL has {row[0]} calendar connections that "
                "are not the demo's. `supacal dev` would ask its own doubles of Google "
                "about them, and find them lost: point it to a database without any."
            )

    def _wake(self) -> None:
        with (
            psycopg.connect(self.database_url) as database,
            psycopg.ClientCursor(database) as cursor,
        ):
            cursor.execute(_sql("twin_restarted"), {"provider": Provider.GOOGLE})

    def _store(
        self, user: DemoUser, account: Account, calendars: Sequence[Calendar]
    ) -> UUID:
        grant = account.sign_in()
        facts = {
            "user_id": user.id,
            "provider": Provider.GOOGLE,
            "account": account.email,
            "scopes": list(grant.scopes),
            "calendar_ids": [calendar.id for calendar in calendars],
            "names": [calendar.state.summary for calendar in calendars],
            "time_zones": [calendar.time_zone for calendar in calendars],
        }
        tokens = StoredTokens(
            access_token=grant.access_token,
            refresh_token=grant.refresh_token,
            expires_at=grant.expires_at,
            scope=" ".join(grant.scopes),
        )
        with psycopg.connect(self.database_url) as database:
            row = database.execute(_sql("demo_connection"), facts).fetchone()
            if row is None:
                raise LookupError(f"{user.name} belongs to no organization")
            connection_id: UUID = row[0]
            sealed = self.keyring.seal(
                tokens.to_json(), context=f"connection:{connection_id}"
            )
            sealed_facts = {
                "connection_id": connection_id,
                "key_id": sealed.key_id,
                "ciphertext": sealed.ciphertext,
            }
            database.execute(_sql("demo_credentials"), sealed_facts)
        return connection_id

    def _signed_in(self, user: DemoUser) -> User:
        with psycopg.connect(self.database_url) as database:
            row = database.execute(
                _sql("demo_organization"), {"user_id": user.id}
            ).fetchone()
        token = user_token(
            user.id, user.email, secret=self.jwt_secret, issuer=self.auth_url
        )
        return User(
            id=user.id,
            email=user.email,
            jwt=token,
            organization=row[0] if row else None,
        )


def calendar_files(shared: Path) -> list[Path]:
    """Return the .ics files of the demo: real ones where they are, else our own."""
    real = [shared / "data" / "calendars" / name for name in REAL_CALENDARS]
    if all(file.exists() for file in real):
        return real
    return sorted(OWN_CALENDARS.glob("*.ics"))[:2]


def _fill_calendar(account: Account, file: Path) -> None:
    name = file.stem.partition("_")[0].title()
    calendar = account.add_calendar(
        name, calendar_id=f"{file.stem.lower()}@group.calendar.google.com"
    )
    calendar.import_ics(file, into_present=True)


def _sql(name: str) -> bytes:
    return (HERE / f"{name}.sql").read_bytes()
