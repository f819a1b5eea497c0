"""Submitting questions, and finding the jobs that answer them, for asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator
from copy import copy
from typing import TYPE_CHECKING, Any, Self

from medgemma_client.aio.backfill import AsyncBackfill
from medgemma_client.aio.bells import LoopBells
from medgemma_client.aio.job import AsyncJob
from medgemma_client.aio.like import like
from medgemma_client.aio.threads import Threads
from medgemma_client.client import Client
from medgemma_client.job import Job
from medgemma_tasks.settings import Settings

if TYPE_CHECKING:
    from medgemma_client.study import Study
    from medgemma_tasks.dead import DeadJob


class AsyncClient:
    """As ``Client``: one for a whole application, for any number of tasks at once.

    Its calls run in a few threads of its own, so that no loop waits for one. A call that is
    cancelled may still be done: submitting the same again is the same job.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self._client = Client(settings)
        self._threads = Threads()
        self._bells = LoopBells(self._client._live)

    @property
    def settings(self) -> Settings:
        return self._client.settings

    @like(Client.of_tenant)
    def of_tenant(self, *args: Any, **options: Any) -> AsyncClient:
        other = copy(self)
        other._client = self._client.of_tenant(*args, **options)
        other._bells = LoopBells(other._client._live)
        return other

    @like(Client.submit)
    async def submit(self, *args: Any, **options: Any) -> AsyncJob:
        return self._job(await self._threads.run(self._client.submit, *args, **options))

    @like(Client.read_study)
    async def read_study(self, *args: Any, **options: Any) -> Study:
        return await self._threads.run(self._client.read_study, *args, **options)

    @like(Client.job)
    async def job(self, *args: Any, **options: Any) -> AsyncJob:
        return self._job(await self._threads.run(self._client.job, *args, **options))

    @like(Client.dead)
    async def dead(self, *args: Any, **options: Any) -> AsyncIterator[DeadJob]:
        found = self._client.dead(*args, **options)
        while (job := await self._threads.run(next, found, None)) is not None:
            yield job

    @like(Client.requeue)
    async def requeue(self, *args: Any, **options: Any) -> AsyncJob:
        return self._job(await self._threads.run(self._client.requeue, *args, **options))

    @like(Client.models)
    async def models(self) -> list[str]:
        return await self._threads.run(self._client.models)

    @like(Client.backfill)
    def backfill(self, *args: Any, **options: Any) -> AsyncBackfill:
        return AsyncBackfill(lambda: self._client.backfill(*args, **options), self._threads)

    @like(Client.ping_redis)
    async def ping_redis(self) -> None:
        await self._threads.run(self._client.ping_redis)

    @like(Client.ping_store)
    async def ping_store(self) -> None:
        await self._threads.run(self._client.ping_store)

    async def aclose(self) -> None:
        """Give back threads and connections. A call made after that, of the client or of what it
        gave (a result fetches its pictures when asked), makes new ones."""
        await self._threads.close(self._client.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    def _job(self, job: Job) -> AsyncJob:
        return AsyncJob(job, self._threads, self._bells)
