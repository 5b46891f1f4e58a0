"""The stack, where its parts depend on each other."""

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from local_stack.facts import Facts, Usual
from local_stack.ports import LOOPBACK, free_port, url_of
from local_stack.stack import Stack
from local_stack.state import State
from runtime.settings import StackSettings, read


async def started_once(state: State) -> Facts:
    """What a stack says of itself that was started and stopped."""
    settings = read(StackSettings, environ={"SUPACAL_SHARED": "/nowhere"})
    stack = Stack(state, settings, say=lambda _: None)
    facts = await stack.start()
    await stack.stop()
    return facts


async def test_ports_that_are_taken_are_left_alone(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Others than the usual ones: stacks of other tests come and go at those.
    with ExitStack() as held, State(scratch / "state") as state:
        taken = [
            held.enter_context(socket.create_server((LOOPBACK, 0))).getsockname()[1]
            for _ in range(3 + len(Usual.TWINS))
        ]
        monkeypatch.setattr(Usual, "SUPABASE", taken[0])
        monkeypatch.setattr(Usual, "POSTGRES", taken[1])
        monkeypatch.setattr(Usual, "API", taken[2])
        monkeypatch.setattr(
            Usual, "TWINS", dict(zip(Usual.TWINS, taken[3:], strict=True))
        )
        said = str(await started_once(state))
    assert [port for port in taken if f":{port}" in said] == []


async def test_no_worker_is_told_of_a_port_that_its_receiver_did_not_get(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Somebody takes it after we looked.
    with (
        socket.create_server((LOOPBACK, 0)) as somebody,
        State(scratch / "state") as state,
    ):
        looked_free = iter([somebody.getsockname()[1]])
        monkeypatch.setattr(
            "local_stack.stack.free_port",
            lambda wanted=0: next(looked_free, None) or free_port(wanted),
        )
        facts = await started_once(state)
        # What it had watched before, it would have watched there.
        assert state.log("worker").read_text().count('"worker.started"') == 1
        assert facts.api_url != url_of(somebody)
