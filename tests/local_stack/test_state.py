"""The folder in which a local stack keeps what it needs."""

import re
import signal
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import pytest

from local_stack.errors import StackError
from local_stack.state import MARK, State
from runtime.settings import StackSettings

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(params=permutations(["dev", "demo"]), ids=" then ".join)
def folders(request: pytest.FixtureRequest) -> list[Path]:
    """Where `make dev` and `make demo` keep theirs, in the order they are typed."""
    said = subprocess.run(
        ["make", "-n", "demo"], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    named = re.search(r"SUPACAL_STATE_DIR=(\S+) ", said.stdout)
    assert named
    default = StackSettings.model_fields["supacal_state_dir"].default
    of = {"dev": default, "demo": Path(named[1])}
    return [of[command] for command in request.param]


def test_the_demo_and_dev_are_in_nobody_s_way(
    folders: list[Path], tmp_path: Path
) -> None:
    for folder in [*folders, *folders]:
        with State(tmp_path / folder) as state:
            assert state.directory == tmp_path / folder


KILLED_AT_ONCE = """
import fcntl, os, signal, sys
from pathlib import Path
from local_stack.state import State
fcntl.flock = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
State(Path(sys.argv[1]))
"""


def test_a_folder_whose_maker_was_killed_at_once_is_still_known_for_ours(
    tmp_path: Path,
) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_AT_ONCE, tmp_path], cwd=CHECKOUT, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "lock").exists()
    with State(tmp_path):
        assert (tmp_path / "README.txt").read_text().startswith(MARK)


def test_another_s_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photographs").touch()
    with pytest.raises(StackError, match="was not made by the local stack"):
        State(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["photographs"]
