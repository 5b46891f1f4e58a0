"""Whose a push is: its token says so, whatever prefix its channel's id has."""

from uuid import UUID

import pytest

from providers.errors import InvalidNotification
from tests.providers.test_google_receiver import CHANNEL, HEADERS, read

OTHER = UUID(int=7)


@pytest.mark.parametrize("prefix", ["", "salon-", "Team_7+eu/=-", "x" * 28])
def test_the_token_proves_the_channel_under_any_prefix(prefix: str) -> None:
    named = HEADERS | {"x-goog-channel-id": f"{prefix}{CHANNEL}"}
    assert read(named)[0].channel_id == CHANNEL


@pytest.mark.parametrize(
    "named",
    ["", f"{CHANNEL}-salon", f"salon-{OTHER}", f"{CHANNEL}{OTHER}", "salon-"],
)
def test_an_id_that_does_not_end_in_the_channel_is_401(named: str) -> None:
    with pytest.raises(InvalidNotification) as refused:
        read(HEADERS | {"x-goog-channel-id": named})
    assert refused.value.status == 401
