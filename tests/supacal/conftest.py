"""A folder for a stack of the test's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import scratch_directory


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder that Postgres' user may enter, unlike pytest's own."""
    with scratch_directory() as directory:
        yield directory
