"""The gateway answers what a real Realtime server answered."""

from pathlib import Path

import pytest

from local_stack.gateway import Gateway, GatewaySettings
from tests.gateway import recordings
from tests.gateway.replay import Replay
from tests.support.sessions import Connection


@pytest.mark.parametrize(
    "file", recordings.all_recordings(), ids=lambda file: f"{file.stem}"
)
async def test_the_gateway_answers_as_the_recorded_server_did(
    file: Path, settings: GatewaySettings, server: Connection
) -> None:
    recording = recordings.load(file)
    # by who creates tables in a project: theirs are closed to the API until granted
    await server.execute("set role postgres")
    await server.execute("\n".join(["select 1;", *recording["setup"]]))
    await server.execute("reset role")
    async with Gateway(settings) as gateway:
        replay = Replay(gateway.url, recording, server)
        await replay.run()
    wanted = recordings.expected(recording)
    got = recordings.normalised(recording, replay.frames)
    for name, order in recording["order"].items():
        told = recordings.differences(wanted[name], got[name], order)
        assert not told, "\n".join([f"{name}:", *told])
    for place, step in enumerate(recording["steps"]):
        assert replay.results.get(place) == step.get("result"), step
