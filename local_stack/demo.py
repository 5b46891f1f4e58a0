"""What there is to see at once: users who can sign in, and calendars with events."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import psycopg

from local_stack.demo_accounts import ACCOUNTS, DemoAccount
from local_stack.demo_users import ADA, DEMO_USERS, DemoUser, add_demo_users
from local_stack.errors import StackError
from local_stack.facts import User
from local_stack.tokens import user_token
from local_stack.twins.all_four import Twins
from providers.model import Provider
from runtime.sealing import Keyring

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Demo:
    """Fills the twins, and connects a demo user to them."""

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

    def connect(self, twins: Twins, shared: Path) -> dict[Provider, UUID]:
        """Connect Ada's account at every twin, and return the connections.

        A twin that knows her has just been restarted, and calendars that are switched
        on are watched and read anew. Any other is filled first.
        """
        connections: dict[Provider, UUID] = {}
        for provider, open_account in ACCOUNTS.items():
            account = open_account(twins, ADA, shared)
            connections[provider] = self._store(ADA, account)
            self._wake(provider)
        return connections

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
                "are not the demo's. `supacal dev` would ask its own doubles of their "
                "providers about them, and find them lost: point it to a database "
                "without any."
            )

    def _wake(self, provider: Provider) -> None:
        with (
            psycopg.connect(self.database_url) as database,
            psycopg.ClientCursor(database) as cursor,
        ):
            cursor.execute(_sql("twin_restarted"), {"provider": provider})

    def _store(self, user: DemoUser, account: DemoAccount) -> UUID:
        facts = {
            "user_id": user.id,
            "provider": account.provider,
            "account": account.email,
            "scopes": account.scopes,
            "ids": [calendar.id for calendar in account.calendars],
            "names": [calendar.name for calendar in account.calendars],
            "time_zones": [calendar.time_zone for calendar in account.calendars],
            "kinds": [calendar.kind for calendar in account.calendars],
        }
        with psycopg.connect(self.database_url) as database:
            row = database.execute(_sql("demo_connection"), facts).fetchone()
            if row is None:
                raise LookupError(f"{user.name} belongs to no organization")
            connection_id: UUID = row[0]
            sealed = self.keyring.seal(
                account.tokens.to_json(), context=f"connection:{connection_id}"
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


def _sql(name: str) -> bytes:
    return (HERE / f"{name}.sql").read_bytes()
