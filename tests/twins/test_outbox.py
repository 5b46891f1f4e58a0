"""What a twin sends by itself, and the connections it sends it over."""

import asyncio
from collections.abc import Iterator

import httpx2
import pytest

from local_stack.twins.outbox import Outbox


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> list[httpx2.AsyncClient]:
    """Every client that an outbox has made."""
    made: list[httpx2.AsyncClient] = []
    make = httpx2.AsyncClient.__init__

    def remember(client: httpx2.AsyncClient, **options: object) -> None:
        make(client, **options)  # type: ignore[arg-type]
        made.append(client)

    monkeypatch.setattr(httpx2.AsyncClient, "__init__", remember)
    return made


@pytest.fixture
def other_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def answer(_: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(204)


async def test_a_client_is_closed_when_another_receiver_joins(
    clients: list[httpx2.AsyncClient],
) -> None:
    outbox = Outbox()
    outbox.use_running_loop()
    assert outbox.http is outbox.http

    outbox.deliver_to("https://hooks.test", httpx2.MockTransport(answer))
    again = await outbox.http.post("https://hooks.test/in")
    await outbox.aclose()

    assert again.status_code == 204
    assert [client.is_closed for client in clients] == [True, True]


def test_a_client_is_closed_in_the_loop_it_was_used_in(
    clients: list[httpx2.AsyncClient], other_loop: asyncio.AbstractEventLoop
) -> None:
    outbox = Outbox()

    async def send() -> None:
        outbox.use_running_loop()
        outbox.deliver_to("https://hooks.test", httpx2.MockTransport(answer))
        await outbox.http.post("https://hooks.test/in")

    other_loop.run_until_complete(send())

    async def move() -> None:
        outbox.use_running_loop()

    asyncio.run(move())
    other_loop.run_until_complete(asyncio.sleep(0))
    other_loop.run_until_complete(asyncio.sleep(0))

    assert [client.is_closed for client in clients] == [True]
