"""A job, for asyncio."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from medgemma_client.aio.bells import LoopBells
from medgemma_client.aio.like import like
from medgemma_client.aio.result import AsyncResult
from medgemma_client.aio.threads import Threads
from medgemma_client.job import Job
from medgemma_client.waiting import FIRST_POLL, Waiting
from medgemma_tasks.models import ExplanationRequest, Status

if TYPE_CHECKING:
    from medgemma_client.result import Result
    from medgemma_client.watching import Watcher

LOOKS_A_SECOND = 50
"""How often all who wait on one client look, together. Bells wake them sooner."""


class AsyncJob:
    """As ``Job``. Made by ``AsyncClient.submit`` and ``AsyncClient.job``."""

    def __init__(self, job: Job, threads: Threads, bells: LoopBells) -> None:
        self._job = job
        self._threads, self._bells = threads, bells
        self._seen: tuple[Status, datetime] | None = None
        """Where it was last seen to stand, and when."""

    def __repr__(self) -> str:
        return f"AsyncJob({self.id!r})"

    def _repr_html_(self) -> str:
        """A line for notebooks: where the job was last seen to stand, and when.

        Displaying knows no await, and to ask here and now would hold up all else in the loop, for
        as long as a store that is away takes to say nothing.
        """
        from medgemma_client.card import status_card

        status, seen = self._seen or (None, None)
        return status_card(self.id, status, seen=seen)

    @property
    def id(self) -> str:
        return self._job.id

    @property
    def notes(self) -> tuple[str, ...]:
        """Of the one who submitted it about a study: what of that was chosen, and what left out."""
        return self._job.notes

    @like(Job.status)
    async def status(self) -> Status:
        return self._saw(await self._threads.run(self._job.status))

    @like(Job.ended)
    async def ended(self, *args: Any, **options: Any) -> Status | None:
        status = await self._threads.run(self._job.ended, *args, **options)
        return status and self._saw(status)

    @like(Job.request)
    async def request(self) -> ExplanationRequest:
        return await self._threads.run(self._job.request)

    @like(Job.result)
    async def result(self) -> AsyncResult:
        result = await self._threads.run(self._job.result)
        self._saw(self._job._ended(result.record))
        return self._result(result)

    async def wait(
        self,
        timeout: float | None = None,
        progress: bool | Watcher | None = None,
        poll: float = FIRST_POLL,
    ) -> AsyncResult:
        """As ``Job.wait``. Who waits has no thread of its own, and many may wait at once.

        progress: a function is called in the loop; None shows a line in a notebook, and no bar in
        a terminal, which may be a server's. To cancel the wait does not cancel the job.
        """
        from medgemma_client.watching import in_notebook, watcher

        waiting = Waiting(self._job, timeout, poll)
        record = await self._threads.run(waiting.begin)
        if record is None:
            shown = in_notebook() if progress is None else progress
            with watcher(shown) as watch, self._bells.hearing(self.id) as bell:
                rung = False
                while (record := await self._threads.run(waiting.look, rung)) is None:
                    watch(self._saw(waiting.status))
                    pause = max(waiting.pause, self._bells.waiting / LOOKS_A_SECOND)
                    rung = await bell.wait(min(pause, waiting.left))
                watch(waiting.status)
        self._saw(self._job._ended(record))
        return self._result(self._job._result(record))

    @like(Job.cancel)
    async def cancel(self) -> bool:
        cancelled = await self._threads.run(self._job.cancel)
        self._seen = None  # it stands elsewhere now
        return cancelled

    def _result(self, result: Result) -> AsyncResult:
        return AsyncResult(result, self._threads)

    def _saw(self, status: Status) -> Status:
        self._seen = status, datetime.now(UTC)
        return status
