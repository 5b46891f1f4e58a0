"""The whole system on one machine, from packages alone.

Only settings tell the receiver and the worker that they run here and not in production.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import httpx2

from local_stack.children import Child
from local_stack.demo import Demo
from local_stack.errors import StackError
from local_stack.facts import Facts, Usual
from local_stack.guard import Guard
from local_stack.migrate import migrate
from local_stack.ports import LOOPBACK, free_port, listen, url_of
from local_stack.serving import serving
from local_stack.state import State
from local_stack.supabase import (
    CHECKOUT,
    MIGRATIONS,
    OwnSupabase,
    Supabase,
    given_supabase,
)
from local_stack.together import in_thread
from local_stack.twin_file import TwinFile
from local_stack.twins.all_four import Twins
from providers.model import Provider
from runtime.settings import StackSettings

LOOK_EVERY_S = 0.5
PORT_TAKEN = "is taken"  # the receiver's words


class Stack:
    """Starts everything in order, and ends it in the reverse order."""

    def __init__(
        self, state: State, settings: StackSettings, *, say: Callable[[str], None]
    ) -> None:
        self.twins = Twins()
        self.connections: dict[Provider, UUID] = {}
        self.began_at = datetime.now(UTC)
        self._state = state
        self._settings = settings
        self._say = say
        self._given = given_supabase(settings)
        self._own: OwnSupabase | None = None
        self._closing = AsyncExitStack()
        self._programs: list[Child] = []
        self._demo: Demo | None = None

    @property
    def logs(self) -> Path:
        """Where the programs' output is."""
        return self._state.directory / "logs"

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

    async def trouble(self) -> StackError:
        """Wait until something ends by itself, and return what is to be said of it."""
        while True:
            for program in self._programs:
                if program.pid is None:
                    return StackError(program.complaint("ended by itself"))
            if self._own is not None and self._own.postgres.pid is None:
                log = self._own.postgres.log
                return StackError(f"Postgres ended by itself; {log} says why.")
            await asyncio.sleep(LOOK_EVERY_S)

    async def switch_on(self) -> None:
        """Switch the demo calendars' sync on, as a user's click would."""
        if self._demo is not None:
            connections = list(self.connections.values())
            await asyncio.to_thread(self._demo.switch_on, connections)

    async def _start(self) -> Facts:
        guard = Guard()
        self._closing.callback(guard.close)
        supabase = await self._supabase(guard)
        doors = {provider: self._listen(provider) for provider, _ in self.twins}
        facts = Facts(
            database_url=supabase.database_url,
            admin_database_url=supabase.admin_database_url,
            supabase_url=supabase.url,
            api_url=_api_url(free_port(Usual.API)),
            twins={str(provider): url_of(door) for provider, door in doors.items()},
            anon_key=supabase.anon_key,
            service_role_key=supabase.service_role_key,
            jwt_secret=supabase.jwt_secret,
        )
        self._demo = demo = Demo(
            database_url=supabase.database_url,
            keyring=self._state.keyring,
            jwt_secret=supabase.jwt_secret,
            auth_url=f"{supabase.url}/auth/v1",
            is_local=self._given is None,
        )
        facts = facts.with_users(await in_thread(demo.add_users))
        await self._open_twins(demo, doors)
        facts = await self._run_programs(facts, guard)
        self._tell_other_commands(facts)
        return facts

    def _tell_other_commands(self, facts: Facts) -> None:
        file = self._state.running
        file.touch(mode=0o600)  # it has keys
        file.write_text(facts.as_json())
        self._closing.callback(file.unlink, missing_ok=True)

    async def _supabase(self, guard: Guard) -> Supabase:
        if self._given is not None:
            self._say(f"Using the Supabase at {self._given.url}.")
            url = self._given.database_url
            await in_thread(lambda: migrate(url, MIGRATIONS))
            return self._given
        self._own = own = OwnSupabase(
            self._state,
            postgres_dir=self._settings.supacal_postgres_dir,
            guard=guard,
            say=self._say,
        )
        self._closing.push_async_callback(own.stop)
        supabase = await own.start()
        self._programs += own.programs
        return supabase

    def _listen(self, provider: Provider) -> socket.socket:
        door = listen(Usual.TWINS[provider])
        self._closing.callback(door.close)
        return door

    async def _open_twins(
        self, demo: Demo, doors: Mapping[Provider, socket.socket]
    ) -> None:
        files = [
            TwinFile(self._state.twin(provider), twin) for provider, twin in self.twins
        ]
        for file in files:
            file.load(self._say)
        self.connections |= await in_thread(
            lambda: demo.connect(self.twins, self._settings.supacal_shared)
        )
        for file in files:
            file.follow()
            self._closing.callback(file.keep)
        for provider, twin in self.twins:
            await self._closing.enter_async_context(serving(twin, doors[provider]))

    async def _run_programs(self, facts: Facts, guard: Guard) -> Facts:
        """Run the receiver and the worker; return the facts with the port it got."""
        receiver, worker = self._programs_for(facts)
        try:
            await self._run(receiver, lambda: _answers(receiver, facts), guard)
        except StackError:
            if not receiver.said(PORT_TAKEN):
                raise
            # Somebody was faster.
            return await self._run_programs(
                facts.with_api(_api_url(free_port())), guard
            )
        # Not before: the channels that it makes name the receiver's address for good.
        await self._run(worker, lambda: _says(worker, "listener.hearing"), guard)
        self._programs += [receiver, worker]
        return facts

    def _programs_for(self, facts: Facts) -> tuple[Child, Child]:
        """As in production, processes of their own."""
        environment = _inherited() | facts.environment(self._state.secret_keys)
        receiver, worker = (
            Child(
                name,
                [sys.executable, "-m", "supacal", name],
                log=self._state.log(name),
                environment=environment,
                # Not where a .env may point elsewhere.
                directory=self._state.directory,
            )
            for name in ("api", "worker")
        )
        return receiver, worker

    async def _run(
        self, child: Child, ready: Callable[[], Awaitable[bool]], guard: Guard
    ) -> None:
        self._closing.push_async_callback(child.stop)
        await child.start(ready, guard=guard)


def _inherited() -> dict[str, str]:
    """Our environment, without what would send the programs to another database."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().endswith("_DATABASE_URL")
    }
    path = os.pathsep.join(filter(None, (str(CHECKOUT), kept.get("PYTHONPATH"))))
    return kept | {"PYTHONPATH": path}


def _api_url(port: int) -> str:
    return f"http://{LOOPBACK}:{port}"


async def _answers(receiver: Child, facts: Facts) -> bool:
    # On its port somebody else may answer: another stack's.
    if not await _says(receiver, "receiver.listening"):
        return False
    try:
        async with httpx2.AsyncClient() as client:
            return (await client.get(f"{facts.api_url}/readyz")).is_success
    except httpx2.TransportError:
        return False


async def _says(child: Child, event: str) -> bool:
    return await asyncio.to_thread(child.said, event)
