"""The client for asyncio: the same names, each call in a thread, so that no loop waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, TypeVar

from medgemma_client.client import Client, Source
from medgemma_client.job import Job
from medgemma_client.result import Result
from medgemma_tasks.asking import Prompt
from medgemma_tasks.models import Status
from medgemma_tasks.settings import Settings

if TYPE_CHECKING:
    from medgemma_client.backfill.item import Item
    from medgemma_client.backfill.naming import Source as Rows
    from medgemma_client.backfill.rows import Defaults
    from medgemma_client.backfill.run import Backfill
    from medgemma_client.study import Study
    from medgemma_client.study.files import StudySource
    from medgemma_tasks.dead import DeadJob

T = TypeVar("T")


class AsyncClient:
    """As ``Client``. A call that is cancelled may still be done: submitting the same again is the
    same job."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._client = Client(settings)

    @property
    def settings(self) -> Settings:
        return self._client.settings

    async def submit(
        self,
        images: Source | Sequence[Source] | None = None,
        prompt: Prompt = "",
        **options: Any,
    ) -> AsyncJob:
        """As ``Client.submit``."""
        return AsyncJob(await asyncio.to_thread(self._client.submit, images, prompt, **options))

    async def read_study(self, source: StudySource, **choices: Any) -> Study:
        """As ``Client.read_study``."""
        return await asyncio.to_thread(self._client.read_study, source, **choices)

    async def job(self, job_id: str) -> AsyncJob:
        """As ``Client.job``."""
        return AsyncJob(await asyncio.to_thread(self._client.job, job_id))

    async def dead(self, *, all_codes: bool = False) -> AsyncIterator[DeadJob]:
        """As ``Client.dead``."""
        found = self._client.dead(all_codes=all_codes)
        with ThreadPoolExecutor(1) as pool:
            while (job := await _in(pool, lambda: next(found, None))) is not None:
                yield job

    async def requeue(self, job_id: str) -> AsyncJob:
        """As ``Client.requeue``."""
        return AsyncJob(await asyncio.to_thread(self._client.requeue, job_id))

    async def models(self) -> list[str]:
        """As ``Client.models``."""
        return await asyncio.to_thread(self._client.models)

    def backfill(
        self, source: Rows, defaults: Defaults | None = None, **choices: Any
    ) -> AsyncBackfill:
        """As ``Client.backfill``, for ``async for``; whatever it raises, it raises there."""
        return AsyncBackfill(lambda: self._client.backfill(source, defaults, **choices))


class AsyncJob:
    """As ``Job``."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def __repr__(self) -> str:
        return f"AsyncJob({self.id!r})"

    @property
    def id(self) -> str:
        return self._job.id

    @property
    def notes(self) -> tuple[str, ...]:
        return self._job.notes

    async def status(self) -> Status:
        return await asyncio.to_thread(self._job.status)

    async def result(self) -> Result:
        """What its ``Result`` fetches from the store, it fetches when asked: in a thread, if the
        loop must not wait for that."""
        return await asyncio.to_thread(self._job.result)

    async def wait(
        self, timeout: float | None = None, progress: Callable[[Status], None] | None = None
    ) -> Result:
        """As ``Job.wait``, without a bar; ``progress`` is called in the loop. To cancel the wait
        does not cancel the job."""
        loop, given_up = asyncio.get_running_loop(), Event()

        def watch(status: Status) -> None:
            if given_up.is_set():
                raise _GivenUpError
            if progress is not None:
                loop.call_soon_threadsafe(progress, status)

        try:
            return await _apart(lambda: self._job.wait(timeout, watch))
        finally:
            given_up.set()

    async def cancel(self) -> bool:
        return await asyncio.to_thread(self._job.cancel)


class AsyncBackfill:
    """As ``backfill.run.Backfill``: iterate over it once."""

    def __init__(self, make: Callable[[], Backfill]) -> None:
        self._make = make
        self.work: Backfill | None = None
        """The run itself, with its name, folder and summary; None until it is iterated."""

    async def __aiter__(self) -> AsyncIterator[Item]:
        # One thread for all of it: what is cancelled in the middle is then closed in order.
        pool = ThreadPoolExecutor(1, "backfill")
        work = self.work = await _in(pool, self._make)
        items = iter(work)
        try:
            while (item := await _in(pool, lambda: next(items, None))) is not None:
                yield item
        finally:
            work.stop()
            closing = _in(pool, items.close)
            pool.shutdown(wait=False)
            await _to_its_end(closing)  # it writes its files


class _GivenUpError(Exception):
    """Nobody waits any longer."""


def _in(pool: ThreadPoolExecutor, action: Callable[[], T]) -> asyncio.Future[T]:
    return asyncio.get_running_loop().run_in_executor(pool, action)


async def _to_its_end(future: asyncio.Future[None]) -> None:
    """Wait for it even where the wait is cancelled, and be cancelled then."""
    cancelled = None
    while not future.done():
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


async def _apart(action: Callable[[], T]) -> T:
    """Do it in a thread of its own: those of the loop's pool are few, and a wait is long."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(value)  # type: ignore[arg-type]

    def work() -> None:
        value, failure = None, None
        try:
            value = action()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is awaited
            failure = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, value, failure)

    Thread(target=work, daemon=True).start()
    return await done
