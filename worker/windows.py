"""What a round looks at: the window of a calendar, which moves on about weekly."""

from datetime import timedelta

import asyncpg

from worker.pages import Window

# How far beyond the window series are read: a new time may move occurrences there, and
# they are to keep their meetings.
BEYOND = timedelta(days=31)

# A window that is frozen into a cursor lasts until the next full round beside it, which
# is due after four weeks: until then the window moves on within it.
AHEAD = timedelta(days=35)


def windows(calendar: asyncpg.Record, *, full: bool) -> tuple[Window, list[Window]]:
    """Return the window, and the strips of it in which unchanged series are new to us.

    About weekly, and in a full round, the window moves on to where it ought to be.
    """
    start, end = calendar["window_start"], calendar["window_end"]
    wanted: Window = (calendar["wanted_start"], calendar["wanted_end"])
    if end is None:
        return wanted, []
    if not full and calendar["window_rolls_at"] > calendar["now_at"]:
        return (start, end), []
    strips: list[Window] = [(wanted[0], start), (end, wanted[1])]
    return wanted, [strip for strip in strips if strip[0] < strip[1]]
