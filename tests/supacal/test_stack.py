"""The stack, where its parts depend on each other."""

import socket
from pathlib import Path

import pytest

from local_stack.ports import LOOPBACK, free_port, url_of
from local_stack.stack import Stack
from local_stack.state import State
from runtime.settings import StackSettings, read


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
        settings = read(StackSettings, environ={"SUPACAL_SHARED": "/nowhere"})
        stack = Stack(state, settings, say=lambda _: None)
        facts = await stack.start()
        await stack.stop()
        # What it had watched before, it would have watched there.
        assert state.log("worker").read_text().count('"worker.started"') == 1
        assert facts.api_url != url_of(somebody)
