"""The database's time, moved by a test."""

from datetime import UTC, datetime, timedelta

from tests.support.sessions import Connection


class DatabaseClock:
    """Stands still from its first `set` on, in every session of the database."""

    def __init__(self, database: Connection) -> None:
        self._database = database
        self.now = datetime.now(UTC)

    async def set(self, now: datetime) -> None:
        self.now = now
        # The owner replaces the body; grants and comment stay.
        await self._database.execute(
            f"""
            create or replace function sync.clock() returns timestamptz
            language sql volatile set search_path = ''
            as $$ select timestamptz '{now.isoformat()}' $$
            """
        )

    async def advance(self, **by: float) -> datetime:
        """Move on: `await clock.advance(minutes=5)`; returns the new time."""
        await self.set(self.now + timedelta(**by))
        return self.now
