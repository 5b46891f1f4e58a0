"""The Supabase below a stack: one that settings point to, or one of the stack's own."""

import contextlib
import signal
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg

from local_stack.children import Child
from local_stack.door import Keys, make_door
from local_stack.errors import StackError
from local_stack.facts import Usual
from local_stack.gateway.authorization import DATABASE_GONE
from local_stack.gateway.server import Gateway, GatewayNotStarted
from local_stack.gateway.settings import GatewaySettings
from local_stack.guard import Guard
from local_stack.lite import ROLE, Lite, prepare_database
from local_stack.migrate import MigrationError, migrate
from local_stack.node import Node, install_packages
from local_stack.ports import LOOPBACK, free_port, listen, url_of
from local_stack.postgres import Postgres, find_binaries
from local_stack.serving import serving
from local_stack.splitter import Splitter
from local_stack.state import State
from local_stack.together import in_thread, together
from runtime.settings import SettingsError, StackSettings

CHECKOUT = Path(__file__).parent.parent
MIGRATIONS = CHECKOUT / "supabase" / "migrations"
FAST_SHUTDOWN = signal.SIGINT  # Postgres waits for its clients at SIGTERM


@dataclass(frozen=True)
class Supabase:
    """Where it is, and its keys."""

    database_url: str
    admin_database_url: str
    url: str
    anon_key: str
    service_role_key: str
    jwt_secret: str


def given_supabase(settings: StackSettings) -> Supabase | None:
    """Return the Supabase that settings point to; None where they name none.

    Raises:
        SettingsError: they name a part of one.
    """
    names = (
        "database_url",
        "supabase_url",
        "supabase_anon_key",
        "supabase_service_role_key",
        "supabase_jwt_secret",
    )
    values = {name: getattr(settings, name) for name in names}
    absent = [name for name, value in values.items() if value is None]
    if len(absent) == len(names):
        return None
    if absent:
        there = next(name for name in names if name not in absent).upper()
        raise SettingsError(
            [
                f"{name.upper()} is missing, as {there} is set: "
                f"{StackSettings.model_fields[name].description}"
                for name in absent
            ]
        )
    database, url, anon, service, secret = (
        value.get_secret_value() if hasattr(value, "get_secret_value") else str(value)
        for value in values.values()
    )
    return Supabase(database, database, url.rstrip("/"), anon, service, secret)


class OwnSupabase:
    """Postgres, REST, Auth and Realtime, from packages alone."""

    def __init__(
        self,
        state: State,
        *,
        postgres_dir: Path | None,
        guard: Guard | None = None,
        say: Callable[[str], None],
    ) -> None:
        self.postgres = Postgres(
            state.directory / "postgres",
            binaries=find_binaries(postgres_dir),
            port=Usual.POSTGRES,
        )
        self.programs: list[Child] = []
        self._state = state
        self._guard = guard
        self._say = say
        self._closing = AsyncExitStack()
        self._node: Node | None = None

    async def start(self) -> Supabase:
        """Return where it is, once all of it answers; `stop` it in any case.

        Raises:
            StackError: with what to do.
        """
        await together(in_thread(self._install), in_thread(self._start_postgres))
        listener = listen(Usual.SUPABASE)
        self._closing.callback(listener.close)
        supabase = Supabase(
            database_url=self.postgres.url,
            admin_database_url=self.postgres.admin_url,
            url=url_of(listener),
            anon_key=self._state.anon_key,
            service_role_key=self._state.service_role_key,
            jwt_secret=self._state.jwt_secret,
        )
        lite = Lite(free_port())
        await together(
            self._start_lite(lite, supabase), self._open(supabase, listener, lite)
        )
        return supabase

    async def stop(self) -> None:
        """End all of it."""
        await self._closing.aclose()

    def _install(self) -> None:
        self._node = install_packages(CHECKOUT, say=self._say)

    def _start_postgres(self) -> None:
        postgres = self.postgres
        if not postgres.data.exists():
            self._say("Making a Postgres database (once; a few seconds) …")
        self._closing.callback(self._stop_postgres)
        postgres.start()
        if self._guard is not None and postgres.pid is not None:
            self._guard.watch(postgres.pid, ends_at=FAST_SHUTDOWN)
        postgres.install_surface()
        self._migrate(postgres.url)
        prepare_database(postgres.admin_url)

    def _migrate(self, url: str) -> None:
        try:
            migrate(url, MIGRATIONS)
        except MigrationError as error:
            raise StackError(
                f"{error}\nThe database in {self._state.directory} is from another "
                "version: start afresh with --reset."
            ) from error

    def _stop_postgres(self) -> None:
        pid = self.postgres.pid
        self.postgres.stop()
        if self._guard is not None and pid is not None:
            self._guard.forget(pid)

    async def _start_lite(self, lite: Lite, supabase: Supabase) -> None:
        if self._node is None:
            raise StackError("REST and Auth need Node.js, which was not looked for")
        child = lite.child(
            self._node,
            CHECKOUT,
            folder=self._state.directory / "lite",
            database_url=self.postgres.url_of("postgres", role=ROLE),
            jwt_secret=supabase.jwt_secret,
            log=self._state.log("rest"),
        )
        self._closing.push_async_callback(child.stop)
        await child.start(lite.answers, guard=self._guard)
        self.programs.append(child)

    async def _open(
        self, supabase: Supabase, listener: socket.socket, lite: Lite
    ) -> None:
        """Realtime, and the one address for it, REST and Auth."""
        gateway = await self._start_gateway(supabase)
        keys = Keys(
            anon=supabase.anon_key,
            service_role=supabase.service_role_key,
            publishable=lite.publishable_key,
            secret=lite.secret_key,
        )
        door = make_door(lite_url=lite.url, gateway_url=gateway.url, keys=keys)
        behind = listen()
        await self._closing.enter_async_context(serving(door, behind))
        splitter = Splitter(
            listener,
            door_port=behind.getsockname()[1],
            gateway_port=gateway.port,
        )
        await splitter.start()
        self._closing.push_async_callback(splitter.stop)

    async def _start_gateway(self, supabase: Supabase) -> Gateway:
        gateway = Gateway(
            GatewaySettings(
                database_url=supabase.admin_database_url,
                jwt_secret=supabase.jwt_secret,
                host=LOOPBACK,
                port=0,
            )
        )
        try:
            await gateway.start()
        except GatewayNotStarted as error:
            raise StackError(
                f"Realtime did not start: {error}. If {self._state.directory} is from "
                "an older version, start afresh with --reset."
            ) from error
        self._closing.push_async_callback(_stop_gateway, gateway)
        return gateway


async def _stop_gateway(gateway: Gateway) -> None:
    # With the database gone there is no slot to drop, and that is not what went wrong.
    with contextlib.suppress(*DATABASE_GONE, psycopg.OperationalError):
        await gateway.stop()
