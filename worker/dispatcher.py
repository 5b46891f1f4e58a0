"""Claims due tasks, runs them beside each other, and writes down how they ended.

One loop, one connection, one question at a time: what has ended since the last question
is settled by the same call that claims for the slots that became free. No window is
waited for: the question under way is window enough. A slow handler holds its own slot
and nobody else's. The loop sleeps until something ended, was announced or falls due.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import asyncpg
import structlog

from worker.agenda import Agenda
from worker.attempt import Ended, attempt, break_off, is_lease_lost, lost, tell_lost
from worker.handler import Handler, Task
from worker.leases import Leases, Run
from worker.line import Connect, Line, NoAnswer, Uncertain
from worker.listener import Hearing
from worker.settling import Request, fail, hand_back, renew, settle_and_claim
from worker.waiting import happens

# How often to look while no notification reaches us.
POLL_EVERY_S = 1.0
# What is left of the stop for handing back, after the handlers had theirs.
HAND_BACK_WITHIN_S = 1.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Pace:
    """How much at once, and for how long."""

    slots: int = 32
    per_connection: int = 8
    lease_s: float = 60
    # Calls have time-outs of their own; this is for what nobody has thought of.
    run_limit_s: float = 900
    # What runs when the worker is told to stop may end by itself for so long.
    stop_within_s: float = 7


class Dispatcher:
    """Works on tasks until it is told to stop."""

    def __init__(
        self, connect: Connect, handlers: Mapping[str, Handler], pace: Pace
    ) -> None:
        self._line = Line(connect)
        self._handlers = handlers
        self._kinds = list(handlers)
        self._pace = pace
        self._lease_for = timedelta(seconds=pace.lease_s)
        self._leases = Leases(pace.lease_s)
        self._agenda = Agenda()
        self._agenda.poll_every_s = POLL_EVERY_S
        self._good: list[Ended] = []
        self._bad: list[Ended] = []
        # Runs to be recorded whatever the database says of their lease.
        self._records: list[Ended] = []
        # Whether the last answer was lost: then "not held" may mean "done already".
        self._uncertain = False
        self._cancelled: list[asyncio.Task[None]] = []
        self._stir = asyncio.Event()
        self._retry = asyncio.Event()
        self._stopping = False

    # What the listener tells.

    def hear(self, payload: str) -> None:
        self._agenda.hear(payload)
        self._stir.set()

    def set_hearing(self, hearing: Hearing) -> None:
        deaf = hearing is not Hearing.GOOD
        self._agenda.poll_every_s = POLL_EVERY_S if deaf else None
        self._agenda.forget()
        self._stir.set()
        if not deaf:
            self._retry.set()

    def check_clock(self, database_now: datetime) -> None:
        self._agenda.check_clock(database_now)
        self._stir.set()

    # Running.

    def stop(self) -> None:
        """Claim nothing more; ``run`` returns when all has ended or is given back."""
        self._stopping = True
        self._stir.set()
        self._retry.set()

    async def run(self) -> None:
        """Work until told to stop."""
        try:
            while not self._stopping:
                await self._turn()
            await self._wind_up()
        finally:
            self._cancel_all()
            self._line.hang_up()

    def abandoned(self) -> bool:
        """Whether, after ``run``, a handler goes on though it was cancelled."""
        return not all(job.done() for job in self._cancelled)

    async def _turn(self) -> None:
        """Wait for a reason to ask the database something, and ask it."""
        await self._wait_until(self._wake_at())
        try:
            await self._renew()
            await self._tell_failures()
            if not self._stopping and self._is_time():
                await self._settle_and_claim(self._slots_to_fill())
        except NoAnswer as failure:
            self._uncertain |= isinstance(failure, Uncertain)
            self._agenda.forget()
            await self._pause()

    def _is_time(self) -> bool:
        return bool(self._good or self._records) or (
            len(self._leases) < self._pace.slots
            and self._agenda.look_at <= time.monotonic()
        )

    def _slots_to_fill(self) -> int:
        # At most half of them at a time: the other half works while the database does.
        at_once = max(1, self._pace.slots // 2)
        return min(at_once, self._pace.slots - len(self._leases))

    def _wake_at(self) -> float:
        if self._good or self._bad or self._records:
            return 0
        if self._stopping or len(self._leases) >= self._pace.slots:
            return self._leases.renew_at
        return min(self._leases.renew_at, self._agenda.look_at)

    async def _wait_until(self, moment: float) -> None:
        # Cleared in the step that has just looked for reasons: none can come between.
        self._stir.clear()
        wait_s = moment - time.monotonic()
        if wait_s > 0:
            await happens(self._stir, wait_s)

    async def _pause(self) -> None:
        """Wait to ask again, or until the listener has found the database."""
        self._retry.clear()
        await happens(self._retry, self._line.pause_s)

    # What is asked.

    async def _settle_and_claim(self, slots: int) -> None:
        """Write down what ended and take new work for so many slots."""
        ended, records = self._good[:], self._records[:]
        request = Request(
            kinds=self._kinds,
            slots=slots,
            lease_for=self._lease_for,
            floor=self._agenda.begin(),
            per_connection=self._pace.per_connection,
            busy=self._leases.connections(),
        )
        answer = await self._line.ask(
            lambda c: settle_and_claim(c, ended, records, request)
        )
        # Only now: what was not answered is asked once more.
        del self._good[: len(ended)], self._records[: len(records)]
        self._drop(answer.lost, ended)
        self._uncertain = False
        if slots:
            self._agenda.learn(answer.survey)
        if not self._stopping:
            self._begin(answer.tasks)
        elif answer.tasks:  # asked for before
            unwanted = [Run(task) for task in answer.tasks]
            await self._line.ask(partial(hand_back, runs=unwanted))

    async def _tell_failures(self) -> None:
        while self._bad:
            ended = self._bad[0]
            try:
                await self._line.ask(partial(fail, ended=ended))
                self._records.append(ended)
            except asyncpg.PostgresError as failure:
                if not is_lease_lost(failure):
                    raise
                self._drop({ended.task.id}, [ended])
            self._bad.pop(0)

    async def _renew(self) -> None:
        if self._leases.renew_at > time.monotonic():
            return
        runs = self._leases.to_renew()
        self._break_off_endless(runs)
        asked_at = time.monotonic()
        held = await self._line.ask(lambda c: renew(c, runs, self._lease_for))
        for run in self._leases.renewed(runs, held, asked_at):
            run.cancel()
            tell_lost(run.task)
            self._records.append(lost(run.task))

    def _break_off_endless(self, runs: list[Run]) -> None:
        """A handler that hangs would keep its task for ever, renewing and renewing."""
        begun_before = time.monotonic() - self._pace.run_limit_s
        for run in [run for run in runs if run.task.claimed < begun_before]:
            self._leases.end(run)
            run.cancel()
            self._end(break_off(run.task, "it did not come to an end in time"))
            runs.remove(run)

    def _drop(self, ids: set[int], ended: list[Ended]) -> None:
        """Note runs that ended well for nothing: somebody else does them again."""
        if self._uncertain:
            return  # or that were written down by a call whose answer was lost
        for one in ended:
            if one.task.id in ids:
                tell_lost(one.task)
                self._records.append(lost(one.task))

    # Runs.

    def _begin(self, tasks: list[Task]) -> None:
        runs = [self._leases.begin(task) for task in tasks]
        # They start when the next question is on its way, so that neither side idles.
        asyncio.get_running_loop().call_soon(self._start, runs)

    def _start(self, runs: list[Run]) -> None:
        for run in runs:
            if self._leases.holds(run):
                run.job = asyncio.create_task(self._work(run))

    async def _work(self, run: Run) -> None:
        try:
            ended = await attempt(self._handlers[run.task.kind], run.task)
        except asyncio.CancelledError:
            # Not by us, who end a run first: something that it waited for was.
            if self._leases.end(run):
                self._end(break_off(run.task, "cancelled from within"))
            raise
        if self._leases.end(run):
            self._end(ended)

    def _end(self, ended: Ended) -> None:
        if ended.outcome is not None:
            self._good.append(ended)
        elif ended.error is not None:
            self._bad.append(ended)
        else:
            self._records.append(ended)
        self._stir.set()

    # Stopping.

    async def _wind_up(self) -> None:
        """Let what runs end by itself for a while, and give back the rest."""
        deadline = time.monotonic() + self._pace.stop_within_s
        log.info("worker.stopping", running=len(self._leases))
        while self._unsettled() and time.monotonic() < deadline:
            await self._wait_until(min(deadline, self._wake_at()))
            try:
                await self._renew()
                await self._tell_failures()
                if self._good or self._records:
                    await self._settle_and_claim(0)
            except NoAnswer as failure:
                self._uncertain |= isinstance(failure, Uncertain)
                await self._pause()
        handed_back = await self._hand_back()
        log.info("worker.stopped", handed_back=handed_back)

    def _unsettled(self) -> bool:
        return bool(len(self._leases) or self._good or self._bad or self._records)

    async def _hand_back(self) -> int:
        runs = self._cancel_all()
        if not runs:
            return 0
        # They are given back when they have let go, or whoever takes them meets them.
        await asyncio.wait(self._cancelled, timeout=HAND_BACK_WITHIN_S / 2)
        try:
            async with asyncio.timeout(HAND_BACK_WITHIN_S):
                return await self._line.ask(lambda c: hand_back(c, runs))
        except (NoAnswer, TimeoutError):
            return 0  # due again when their leases run out

    def _cancel_all(self) -> list[Run]:
        runs = self._leases.end_all()
        for run in runs:
            if run.job is not None:
                run.job.cancel()
                self._cancelled.append(run.job)
        return runs
