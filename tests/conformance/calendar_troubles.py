"""What every client makes of trouble, whoever the calendars' provider is."""

import pytest

from providers import errors
from tests.conformance.calendar_clients import AtTwin, Told


class CalendarTroublePromises:
    """Subclass it, and have a fixture `at`: on a twin, for that can be troubled."""

    async def test_a_cursor_that_is_lost_says_so_and_everything_can_be_read_anew(
        self, at: AtTwin
    ) -> None:
        made = await at.hand.add("Check-up", at.start)
        first = await at.told(lambda told: made in told.items)
        at.lose_cursors()

        with pytest.raises(errors.CursorExpired):
            await at.read_round(first)

        anew = Told(at.client)
        await at.read_round(anew)
        assert made in anew.items
        await at.read_round(anew)

    @pytest.mark.parametrize("status", [429, 503])
    async def test_who_is_to_wait_is_told_how_long(
        self, at: AtTwin, status: int
    ) -> None:
        at.twin.switchboard.answer("*", status, retry_after_s=17)

        with pytest.raises(errors.Transient) as refused:
            await at.read_round(Told(at.client))

        assert isinstance(refused.value, errors.RateLimited) is (status == 429)
        assert refused.value.retry_after_s == 17

    @pytest.mark.parametrize("after", [True, False])
    async def test_a_call_that_is_cut_is_unavailable(
        self, at: AtTwin, after: bool
    ) -> None:
        at.twin.switchboard.cut("*", after=after)

        with pytest.raises(errors.Unavailable):
            await at.read_round(Told(at.client))
