"""The load generators: in C, and in Python where there is no compiler."""

import asyncio
import sys
from contextlib import asynccontextmanager

import pytest

from bench.load import Load, LoadFailed

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@asynccontextmanager
async def server(*pieces):
    """Answer each request with these pieces, one packet each."""

    async def answer(reader, writer):
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listening:
        yield listening.sockets[0].getsockname()[1]


@pytest.fixture(params=["compiled", "python"])
def load(request, tmp_path, monkeypatch):
    if request.param == "python":
        monkeypatch.setattr("bench.compiled.COMPILERS", ("no-such-compiler",))
    return Load(tmp_path)


async def run(load, port, connections=4):
    return await load.run(
        port, [GET, GET], seconds=0.3, warm_up_s=0.1, connections=connections
    )


async def test_answers_are_counted_with_what_they_took(load):
    async with server(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") as port:
        loaded = await run(load, port)
    assert loaded.answers > 10
    assert loaded.per_second == pytest.approx(loaded.answers / 0.3)
    assert 0 < loaded.p50_ms <= loaded.p99_ms


async def test_an_answer_in_pieces_is_one_answer(load):
    pieces = (b"HTTP/1.1 200 OK\r\ncontent-", b"length: 4\r\n\r\n12", b"34")
    async with server(*pieces) as port:
        loaded = await run(load, port)
    assert loaded.answers > 10


async def test_what_is_refused_is_no_speed(load):
    async with server(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n") as port:
        with pytest.raises(LoadFailed, match="not 2xx"):
            await run(load, port)


async def test_a_server_that_is_not_there_is_told(load):
    with pytest.raises(LoadFailed):
        await run(load, 1)


def test_python_runs_the_fallback(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.compiled.COMPILERS", ())
    assert Load(tmp_path)._command[0] == sys.executable
