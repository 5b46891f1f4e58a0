"""How lines are run, and what happens to those whose peer is missing."""

import sys
from types import SimpleNamespace

import pytest

from bench.__main__ import LINES, measure_all, measure_one
from bench.measure import Claim, NotMeasured, Result, Spread
from bench.peers_venv import PROGRAMS, Peers


class Good:
    NAME, TITLE = "good", "Good"

    async def measure(self, _):
        return Result(self.NAME, self.TITLE, [Claim("it", Spread.of([1]), at_least=1)])


class Lacking(Good):
    NAME, TITLE = "lacking", "Lacking"

    async def measure(self, _):
        raise NotMeasured("pgqueuer is not installed: run `make bench`")


async def test_a_line_that_cannot_be_measured_says_so_and_the_others_run(
    monkeypatch, capsys
):
    lines = {line.NAME: line for line in (Lacking(), Good())}
    monkeypatch.setattr("bench.__main__.LINES", lines)
    results = await measure_all(None, ["good", "lacking"])
    assert [result.claims[0].verdict for result in results] == ["not measured", "holds"]
    assert "pgqueuer is not installed: run `make bench`" in capsys.readouterr().out


async def test_a_line_that_breaks_is_a_bug_and_no_missing_peer():
    class Broken(Good):
        async def measure(self, _):
            raise RuntimeError("nothing is due")

    with pytest.raises(RuntimeError):
        await measure_one(None, Broken())


async def test_a_peer_that_is_not_installed_is_named_with_what_to_do(tmp_path):
    with pytest.raises(
        NotMeasured, match=r"pgqueuer is not installed: run `make bench`"
    ):
        await Peers(tmp_path).need("pgqueuer")


async def test_a_module_missing_from_the_peers_venv_is_named(tmp_path):
    peers = Peers(tmp_path)
    peers.python.parent.mkdir(parents=True)
    peers.python.symlink_to(sys.executable)
    await peers.need("json")
    with pytest.raises(NotMeasured, match="no_such_queue is not installed"):
        await peers.need("json", "no_such_queue")


async def test_a_peer_that_fails_says_its_last_words(tmp_path, monkeypatch):
    peers = Peers(tmp_path)
    peers.python.parent.mkdir(parents=True)
    peers.python.symlink_to(sys.executable)
    monkeypatch.setattr("bench.peers_venv.PROGRAMS", tmp_path)
    (tmp_path / "broken.py").write_text("raise SystemExit('no such table')")
    (tmp_path / "sound.py").write_text("print('hello'); print('{\"ms\": [1]}')")
    with pytest.raises(NotMeasured, match="broken failed: no such table"):
        await peers.run("broken")
    assert await peers.run("sound") == {"ms": [1]}


async def test_memory_is_judged_by_the_largest_that_was_seen():
    ground = SimpleNamespace(memory_mb={"receiver": [60, 70], "worker": [130, 80]})
    result = await LINES["memory"].measure(ground)
    assert [claim.verdict for claim in result.claims] == ["holds", "falls short"]


async def test_memory_is_not_measured_before_anything_has_run():
    ground = SimpleNamespace(memory_mb={"receiver": [], "worker": [80]})
    with pytest.raises(NotMeasured):
        await LINES["memory"].measure(ground)


def test_the_lines_of_the_table_are_all_there():
    assert list(LINES) == [
        "receiver",
        "claimed",
        "drain",
        "coalescing",
        "held",
        "page",
        "callback",
        "claim",
        "lanes",
        "bookings",
        "memory",
    ]


@pytest.mark.parametrize("program", sorted(PROGRAMS.glob("*.py")))
def test_peers_import_nothing_of_ours(program):
    # They run where our packages are not installed.
    ours = {"bench", "local_stack", "providers", "runtime", "sql", "worker"}
    imported = {
        line.split()[1].partition(".")[0]
        for line in program.read_text().splitlines()
        if line.startswith(("import ", "from "))
    }
    assert not imported & ours
