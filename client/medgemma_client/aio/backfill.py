"""A run of many questions, for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from medgemma_client.aio.like import like
from medgemma_client.aio.result import AsyncResult
from medgemma_client.aio.threads import Threads
from medgemma_client.backfill.item import Item
from medgemma_client.backfill.run import Backfill
from medgemma_tasks.errors import InvalidRequest

if TYPE_CHECKING:
    from medgemma_client.backfill.plan import Plan

T = TypeVar("T")


@dataclass(frozen=True, repr=False, kw_only=True)
class AsyncItem(Item):
    """As ``backfill.item.Item``; the result is awaited."""

    threads: Threads

    async def result(self) -> AsyncResult:  # type: ignore[override]  # of no use unawaited
        """As ``Item.result``."""
        return AsyncResult(await self.threads.run(super().result), self.threads)


class AsyncBackfill:
    """As ``backfill.run.Backfill``: iterate over it once, by ``async for``.

    It is made when it is awaited, or iterated; until then it has no name.
    """

    def __init__(self, make: Callable[[], Backfill], threads: Threads) -> None:
        self._make, self._threads = make, threads
        self._work: Backfill | None = None
        self._making = asyncio.Lock()

    def __await__(self) -> Generator[Any, None, AsyncBackfill]:
        """Make it, and raise what that raises, before it is iterated."""
        return self._made().__await__()

    @property
    def run(self) -> str:
        """Its name."""
        return self._there.run

    @property
    def total(self) -> int | None:
        """About how many rows there are, until all were met; None where nobody knows."""
        return None if self._work is None else self._work.total

    @property
    def folder(self) -> Path:
        """Where its files are written."""
        return self._there.folder

    @property
    def summary(self) -> dict[str, Any]:
        """What it came to, once the iteration has ended."""
        return {} if self._work is None else self._work.summary

    @like(Backfill.plan)
    async def plan(self, *args: Any, **options: Any) -> Plan:
        await self
        return await self._threads.run(self._there.plan, *args, **options)

    @like(Backfill.stop)
    def stop(self) -> None:
        self._there.stop()

    async def __aiter__(self) -> AsyncIterator[AsyncItem]:
        await self
        work = self._there
        # One thread for all of it: the processes that it starts end with it, and what is
        # cancelled in the middle is closed in order.
        pool = ThreadPoolExecutor(1, "backfill")
        items = iter(work)
        try:
            while (item := await _in(pool, lambda: next(items, None))) is not None:
                yield AsyncItem(**vars(item), threads=self._threads)
        finally:
            work.stop()
            closing = _in(pool, items.close)
            pool.shutdown(wait=False)
            await _to_its_end(closing)  # it writes its files

    async def _made(self) -> AsyncBackfill:
        async with self._making:  # one task may iterate while another asks for its plan
            if self._work is None:
                self._work = await self._threads.run(self._make)
        return self

    @property
    def _there(self) -> Backfill:
        if self._work is None:
            raise InvalidRequest("A backfill has a name once it was awaited, or is iterated over.")
        return self._work


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
