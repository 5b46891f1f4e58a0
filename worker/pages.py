"""What a round asks of the provider: its pages, one after the other, and their time."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic, perf_counter

import msgspec

from providers.model import Event, Item, Malformed, Page
from providers.protocols import Client
from worker.connections import Account
from worker.handler import Task

Window = tuple[datetime, datetime]


@dataclass(slots=True)
class Steps:
    """How long a run spent on what, in milliseconds by name."""

    spent: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        began = perf_counter()
        try:
            yield
        finally:
            ms = (perf_counter() - began) * 1000
            self.spent[step] = self.spent.get(step, 0.0) + ms


class Pages:
    """Reads one calendar of one account."""

    def __init__(
        self, task: Task, account: Account, provider_calendar_id: str, steps: Steps
    ) -> None:
        self._task = task
        self._account = account
        self._calendar_id = provider_calendar_id
        self._steps = steps
        self.malformed: list[Malformed] = []

    @property
    def cursor_parameters(self) -> str:
        return self._account.cursor_parameters

    def changes(
        self, cursor: str | None, since: datetime | None, until: datetime | None
    ) -> AsyncIterator[Page]:
        """Read what changed since the cursor; without one all that ends later."""
        return self._pages(
            lambda token: self._client.list_changes(
                self._calendar_id,
                cursor=cursor,
                since=since,
                until=until,
                page_token=token,
            )
        )

    def window(self, window: Window) -> AsyncIterator[Page]:
        """Read what lies in a window, series expanded."""
        start, end = window
        return self._pages(
            lambda token: self._client.list_window(
                self._calendar_id, start=start, end=end, page_token=token
            )
        )

    def instances(self, series: str, window: Window) -> AsyncIterator[Page]:
        """Read what a series has in a window."""
        start, end = window
        return self._pages(
            lambda token: self._client.instances(
                self._calendar_id, series, start=start, end=end, page_token=token
            )
        )

    async def get(self, event_id: str) -> Item:
        """Read one event."""
        with self._steps.timed("api"):
            return await self._account.ask(
                lambda: self._client.get(self._calendar_id, event_id)
            )

    def understand(self, items: Sequence[Item], *, expanded: bool) -> list[Event]:
        """Map items; those that cannot be are noted."""
        with self._steps.timed("read"):
            read = [self._client.read_event(item, expanded=expanded) for item in items]
        self.malformed += [event for event in read if isinstance(event, Malformed)]
        return [event for event in read if isinstance(event, Event)]

    async def _pages(
        self, read: Callable[[str | None], Awaitable[Page]]
    ) -> AsyncIterator[Page]:
        token: str | None = None
        while True:
            with self._steps.timed("api"):
                page = await self._account.ask(lambda token=token: read(token))  # type: ignore[misc]
            # Since the claim: with `api` it tells what came before the first answer.
            self._steps.spent["answered"] = (monotonic() - self._task.claimed) * 1000
            yield page
            if page.next_page_token is None:
                return
            token = page.next_page_token

    @property
    def _client(self) -> Client:
        return self._account.client


def unpaged(event: Event) -> Event:
    """Let an event go on without its page, whose bytes it is a view of."""
    return msgspec.structs.replace(event, raw=event.raw.copy())
