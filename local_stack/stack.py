"""The whole system on one machine, from packages alone.

Only settings tell the receiver and the worker that they run here and not in production.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import UUID

import httpx2
from starlette.types import ASGIApp

from local_stack.children import Child
from local_stack.demo import Demo
from local_stack.door import Keys, make_door
from local_stack.facts import Facts, Usual
from local_stack.gateway.server import Gateway
from local_stack.gateway.settings import GatewaySettings
from local_stack.lite import Lite
from local_stack.migrate import migrate
from local_stack.node import install_packages
from local_stack.ports import LOOPBACK, free_port
from local_stack.postgres import Postgres, find_binaries
from local_stack.serving import serving
from local_stack.splitter import Splitter
from local_stack.state import State
from local_stack.twins.google import GoogleTwin
from runtime.settings import StackSettings

CHECKOUT = Path(__file__).parent.parent
MIGRATIONS = CHECKOUT / "supabase" / "migrations"


class Stack:
    """Starts everything in order, and ends it in the reverse order."""

    def __init__(
        self, state: State, settings: StackSettings, *, say: Callable[[str], None]
    ) -> None:
        self.twin = GoogleTwin()
        self.connections: list[UUID] = []
        self._state = state
        self._settings = settings
        self._say = say
        self._closing = AsyncExitStack()
        self._programs: list[Child] = []
        self._demo: Demo | None = None

    async def start(self) -> Facts:
        """Return where everything is, once all of it answers.

        Raises:
            StackError: with what to do.
        """
        try:
            return await self._start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End everything; no process is left."""
        await self._closing.aclose()

    async def first_to_end(self) -> Child:
        """Wait until one of the programs ends by itself, and return it."""
        ends = {asyncio.create_task(child.wait()): child for child in self._programs}
        try:
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            return ends[done.pop()]
        finally:
            for end in ends:
                end.cancel()

    async def _start(self) -> Facts:
        node, postgres = await asyncio.gather(
            asyncio.to_thread(install_packages, CHECKOUT, say=self._say),
            asyncio.to_thread(self._start_postgres),
        )
        supabase_port = free_port(Usual.SUPABASE)
        facts = Facts(
            database_url=postgres.url,
            admin_database_url=postgres.admin_url,
            supabase_url=f"http://{LOOPBACK}:{supabase_port}",
            api_url=f"http://{LOOPBACK}:{free_port(Usual.API)}",
            twins={"google": f"http://{LOOPBACK}:{free_port(Usual.GOOGLE_TWIN)}"},
            anon_key=self._state.anon_key,
            service_role_key=self._state.service_role_key,
            jwt_secret=self._state.jwt_secret,
        )
        lite = Lite(free_port())
        rest = lite.child(
            node,
            CHECKOUT,
            folder=self._state.directory / "lite",
            database_url=postgres.url,
            jwt_secret=facts.jwt_secret,
            log=self._state.log("rest"),
        )
        await asyncio.gather(
            self._run(rest, lite.answers),
            self._open_supabase(facts, supabase_port, lite),
            self._open_twin(facts),
        )
        demo = Demo(
            database_url=facts.database_url,
            keyring=self._state.keyring,
            jwt_secret=facts.jwt_secret,
            auth_url=f"{facts.supabase_url}/auth/v1",
        )
        users = await asyncio.to_thread(demo.add_users)
        shared = self._settings.supacal_shared
        self.connections.append(
            await asyncio.to_thread(demo.connect, self.twin, shared)
        )
        await self._run_programs(facts)
        self._demo = demo
        return facts.with_users(users)

    async def switch_on(self) -> None:
        """Switch the demo calendars' sync on, as a user's click would."""
        if self._demo is not None:
            await asyncio.to_thread(self._demo.switch_on, self.connections)

    def _start_postgres(self) -> Postgres:
        postgres = Postgres(
            self._state.directory / "postgres",
            binaries=find_binaries(self._settings.supacal_postgres_dir),
        )
        if not postgres.data.exists():
            self._say("Making a Postgres database (once; a few seconds) …")
        postgres.start()
        self._closing.callback(postgres.stop)
        postgres.install_surface()
        migrate(postgres.url, MIGRATIONS)
        return postgres

    async def _open_supabase(self, facts: Facts, port: int, lite: Lite) -> None:
        """Realtime, and the one address for it, REST and Auth."""
        gateway = Gateway(
            GatewaySettings(
                database_url=facts.admin_database_url,
                jwt_secret=facts.jwt_secret,
                host=LOOPBACK,
                port=0,
            )
        )
        await gateway.start()
        self._closing.push_async_callback(gateway.stop)
        keys = Keys(
            anon=facts.anon_key,
            service_role=facts.service_role_key,
            publishable=lite.publishable_key,
            secret=lite.secret_key,
        )
        door_port = free_port()
        gateway_url = f"http://{LOOPBACK}:{gateway.port}"
        door = make_door(lite_url=lite.url, gateway_url=gateway_url, keys=keys)
        await self._serve(door, door_port)
        splitter = Splitter(port=port, door_port=door_port, gateway_port=gateway.port)
        await splitter.start()
        self._closing.push_async_callback(splitter.stop)

    async def _open_twin(self, facts: Facts) -> None:
        port = int(facts.twins["google"].rpartition(":")[2])
        await self._serve(self.twin, port)

    async def _serve(self, app: ASGIApp, port: int) -> None:
        await self._closing.enter_async_context(serving(app, port))

    async def _run(self, child: Child, ready: Callable[[], Awaitable[bool]]) -> None:
        self._closing.push_async_callback(child.stop)
        await child.start(ready)
        self._programs.append(child)

    async def _run_programs(self, facts: Facts) -> None:
        """The receiver and the worker: as in production, processes of their own."""
        environment = os.environ | facts.environment(self._state.secret_keys)
        receiver, worker = (
            Child(
                name,
                [sys.executable, "-m", "supacal", name],
                log=self._state.log(name),
                environment=environment,
                directory=CHECKOUT,
            )
            for name in ("api", "worker")
        )
        await asyncio.gather(
            self._run(receiver, lambda: _is_ready(facts.api_url)),
            self._run(worker, lambda: _says(worker, "listener.hearing")),
        )


async def _is_ready(api_url: str) -> bool:
    try:
        async with httpx2.AsyncClient() as client:
            return (await client.get(f"{api_url}/readyz")).is_success
    except httpx2.TransportError:
        return False


async def _says(child: Child, event: str) -> bool:
    return await asyncio.to_thread(child.said, event)
