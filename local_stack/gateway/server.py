"""The gateway, put together: sockets in front, a stream and pools behind."""

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator
from typing import Final, Self

import asyncpg
import structlog

from local_stack.gateway.authorization import DATABASE_GONE, Authorization
from local_stack.gateway.http_api import HttpApi, visible_headers
from local_stack.gateway.http_messages import HttpAnswer, HttpRequest
from local_stack.gateway.joining import Joining
from local_stack.gateway.messages import Messages
from local_stack.gateway.pace import Pace
from local_stack.gateway.pgoutput import Transaction
from local_stack.gateway.presence import Presence
from local_stack.gateway.rooms import Rooms
from local_stack.gateway.rows import RowDelivery
from local_stack.gateway.settings import GatewaySettings
from local_stack.gateway.slots import Slot
from local_stack.gateway.sockets import GOING_AWAY, Socket
from local_stack.gateway.stream import SESSION, Stream
from local_stack.gateway.subscriptions import Subscriptions
from local_stack.gateway.talking import Talking
from local_stack.gateway.tokens import TokenRefused, Tokens
from local_stack.gateway.wire import Connection, Listener

SOCKET_PATHS: Final = frozenset({"/realtime/v1/websocket", "/socket/websocket"})
PARTITIONS_EVERY_S: Final = 3600.0
BACKLOG: Final = 1024  # connections in a storm that wait to be accepted
GOODBYE_S: Final = 0.5
START_LIMIT_S: Final = 30.0

log = structlog.get_logger()


class GatewayNotStarted(Exception):
    """The database answers, but does not stream; the text is its reason."""


class Gateway:
    """One Realtime server: `async with Gateway(settings) as gateway:`."""

    def __init__(self, settings: GatewaySettings):
        self.settings = settings
        self._connections: set[Connection] = set()
        self._all_gone = asyncio.Event()
        self.slot = f"supacal_gateway_{os.getpid()}_{secrets.token_hex(4)}"
        self._sockets: set[Socket] = set()
        self._tokens = Tokens(settings.jwt_secret, settings.opaque_keys)
        self._pace = Pace()
        self._rooms = Rooms()
        self._presence = Presence(self._rooms)
        self._stack = contextlib.AsyncExitStack()
        self._server: asyncio.Server
        self._joining: Joining
        self._talking: Talking
        self._http: HttpApi
        self._rows: RowDelivery
        self._messages: Messages

    @property
    def port(self) -> int:
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"http://{self.settings.host}:{self.port}"

    @property
    def open_sockets(self) -> int:
        return len(self._sockets)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Connect, stream, then listen: who can connect can subscribe."""
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise

    async def stop(self) -> None:
        """Close every socket, and leave no slot behind."""
        await self._stack.aclose()

    async def _start(self) -> None:
        settings = self.settings
        row_pool = await self._open_pool("rows")
        pool = await self._open_pool("joins")
        slot = Slot(pool, self.slot, settings)
        stream = Stream(settings.database_url, self.slot, self._take)
        await slot.make()
        self._stack.push_async_callback(slot.drop)
        authorization = Authorization(pool)
        subscriptions = Subscriptions(
            pool, settings.publication, stream.wait_until_live
        )
        self._rows = RowDelivery(
            row_pool,
            subscriptions,
            record_bytes=settings.record_bytes,
            pending_changes=settings.pending_changes,
            pace=self._pace,
            stream=stream,
        )
        self._messages = Messages(self._rooms, self._pace, stream)
        self._assemble(authorization, subscriptions)
        self._run(self._rows.run(), "rows")
        self._run(self._messages.run(), "messages")
        self._run(stream.run(slot), "stream")
        self._run(self._close_idle(), "idle")
        if settings.keep_partitions:
            self._run(self._keep_partitions(slot), "partitions")
        try:
            async with asyncio.timeout(START_LIMIT_S):
                await stream.wait_until_live()
        except TimeoutError:
            raise GatewayNotStarted(stream.trouble) from None
        await self._listen()

    def _assemble(
        self, authorization: Authorization, subscriptions: Subscriptions
    ) -> None:
        settings, rooms, presence = self.settings, self._rooms, self._presence
        self._joining = Joining(
            self._tokens,
            authorization,
            rooms,
            presence,
            subscriptions,
            channels_per_socket=settings.channels_per_socket,
        )
        self._talking = Talking(
            authorization,
            rooms,
            presence,
            payload_bytes=settings.broadcast_payload_bytes,
        )
        self._http = HttpApi(
            self._tokens,
            authorization,
            rooms,
            payload_bytes=settings.broadcast_payload_bytes,
        )

    async def _open_pool(self, purpose: str) -> asyncpg.Pool:
        """Open a pool; rows have their own, so that joins do not wait for them."""
        pool = await asyncpg.create_pool(
            self.settings.database_url,
            min_size=1,
            max_size=self.settings.pool_size,
            timeout=10,
            command_timeout=30,
            server_settings={
                "application_name": f"supacal gateway {purpose}",
                "search_path": '"$user", public, extensions',
                "options": SESSION,
            },
        )
        self._stack.push_async_callback(_close_pool, pool)
        return pool

    async def _listen(self) -> None:
        settings = self.settings
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Connection(
                self,
                self._pace,
                frame_bytes=settings.inbound_frame_bytes,
                send_buffer_bytes=settings.send_buffer_bytes,
            ),
            settings.host,
            settings.port,
            backlog=BACKLOG,
        )
        self._stack.push_async_callback(self._hang_up)

    async def _hang_up(self) -> None:
        self._server.close()
        if not self._connections:
            return
        self._all_gone.clear()
        for connection in list(self._connections):
            connection.close(GOING_AWAY, "the gateway stops")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                await self._all_gone.wait()
        for connection in list(self._connections):
            connection.transport.abort()

    def _run(self, work: "asyncio._CoroutineLike[None]", name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=f"gateway {name}")

        async def end() -> None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

        self._stack.push_async_callback(end)

    # -- what arrives

    def connected(self, connection: Connection) -> None:
        self._connections.add(connection)

    def disconnected(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._all_gone.set()

    def _take(self, transaction: Transaction) -> None:
        """Broadcasts go out at once; rows wait for their access checks elsewhere."""
        self._messages.take(transaction)
        self._rows.take(transaction)

    def open_socket(
        self, connection: Connection, request: HttpRequest
    ) -> Listener | HttpAnswer:
        """Let a client in, or say why not."""
        if request.raw_path not in SOCKET_PATHS:
            return HttpAnswer(404, "Not Found")
        parameters = request.parameters
        token = request.headers.get("x-api-key") or parameters.get("apikey")
        if not token:
            return HttpAnswer(401, {"error": "API key is missing"})
        try:
            claims = self._tokens.verify(token)
        except TokenRefused as error:
            return HttpAnswer(401, {"error": error.handshake})
        return Socket(
            connection,
            2 if parameters.get("vsn", "").startswith("2.") else 1,
            claims,
            visible_headers(request),
            self._joining,
            self._talking,
            self._pace,
            self._sockets,
        )

    async def answer(self, request: HttpRequest) -> HttpAnswer:
        return await self._http.answer(request)

    # -- upkeep

    async def _close_idle(self) -> None:
        limit_s = self.settings.idle_limit_s
        while True:
            await asyncio.sleep(limit_s / 12)
            now_s = asyncio.get_running_loop().time()
            for socket in list(self._sockets):
                if now_s - socket.heard_at_s > limit_s:
                    socket.connection.close(1000)
                    socket.connection.transport.abort()

    async def _keep_partitions(self, slot: Slot) -> None:
        while True:
            try:
                await slot.keep_partitions()
            except (*DATABASE_GONE, asyncpg.PostgresError) as error:
                log.warning("gateway.partitions_not_kept", reason=type(error).__name__)
            await asyncio.sleep(PARTITIONS_EVERY_S)


async def _close_pool(pool: asyncpg.Pool) -> None:
    try:
        async with asyncio.timeout(2):
            await pool.close()
    except (TimeoutError, *DATABASE_GONE):
        pool.terminate()


@contextlib.asynccontextmanager
async def serve(settings: GatewaySettings) -> AsyncIterator[Gateway]:
    """Run a gateway for the length of a block."""
    async with Gateway(settings) as gateway:
        yield gateway
