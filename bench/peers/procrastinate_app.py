"""FastAPI + procrastinate: verify a push, defer a job in the request, answer."""

# mypy: disable-error-code="import-not-found,untyped-decorator"

import asyncio
import hmac
import os
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import fastapi
import procrastinate
import uvicorn
import uvloop

URL = os.environ["PEER_DATABASE_URL"]
SECRET = os.environ.get("PEER_SECRET", "").encode()
REPORT_TO = ("127.0.0.1", int(os.environ.get("PEER_REPORT_PORT", "0")))
# Tried with 4, 10, 20 and 50: 10 gave the most requests a second and the lowest p99.
POOL_SIZE = int(os.environ.get("PEER_POOL_SIZE", "10"))
CONCURRENCY = 32  # as many as our worker has slots

queue = procrastinate.App(
    connector=procrastinate.PsycopgConnector(
        conninfo=URL, min_size=POOL_SIZE, max_size=POOL_SIZE
    )
)
report = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


@queue.task(name="pull")
async def pull(channel_id: str) -> None:
    """Tell the bench that the handler has started."""
    report.sendto(f"{channel_id} {time.monotonic_ns()}".encode(), REPORT_TO)


@asynccontextmanager
async def lifespan(_: fastapi.FastAPI) -> AsyncIterator[None]:
    """Keep the pool open while the server runs."""
    async with queue.open_async():
        yield


app = fastapi.FastAPI(lifespan=lifespan)


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answer that the server runs."""
    return {"status": "ok"}


@app.post("/webhooks/google")
async def receive(
    x_goog_channel_id: str = fastapi.Header(),
    x_goog_channel_token: str = fastapi.Header(),
    x_goog_resource_state: str = fastapi.Header(),
) -> dict[str, str]:
    """Store a push as a job."""
    mac = hmac.digest(SECRET, x_goog_channel_id.encode(), "sha256").hex()
    if not hmac.compare_digest(mac, x_goog_channel_token):
        raise fastapi.HTTPException(401)
    await pull.defer_async(channel_id=x_goog_channel_id)
    return {"status": "accepted"}


async def work() -> None:
    """Work until told to stop; at most as many jobs at once as our worker."""
    async with queue.open_async():
        sys.stderr.write("working\n")
        await queue.run_worker_async(concurrency=CONCURRENCY, listen_notify=True)


async def make_schema() -> None:
    """Make procrastinate's tables."""
    async with queue.open_async():
        await queue.schema_manager.apply_schema_async()


def main(role: str) -> None:
    """Be the server, the worker, or the one that makes the tables."""
    if role == "schema":
        asyncio.run(make_schema())
        sys.stdout.write("{}\n")
    elif role == "worker":
        uvloop.run(work())
    else:
        uvicorn.run(
            app,
            port=int(os.environ["PEER_PORT"]),
            loop="uvloop",
            http="httptools",
            log_level="warning",
            access_log=False,
        )


if __name__ == "__main__":
    main(sys.argv[1])
