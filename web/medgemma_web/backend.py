"""What the routes work with: a client for each tenant, where all jobs stand, and threads to ask
in. All of it lives as long as the gateway does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from fastapi import Request

from medgemma_client import Client
from medgemma_client.aio.bells import Waiters
from medgemma_client.errors import MedGemmaError
from medgemma_client.models import Settings, Status
from medgemma_web.answers import Limits
from medgemma_web.counting import Counting
from medgemma_web.keys import KeyRing
from medgemma_web.settings import WebSettings
from medgemma_web.uploads import Uploads

T = TypeVar("T")

HEAVY_THREADS = 4
"""Images that are decoded, and reports that are drawn, beside each other."""


class Backend:
    """Made without reaching for anything; ``start`` does."""

    def __init__(self, settings: Settings, web: WebSettings, keys: KeyRing) -> None:
        self.settings, self.web, self.keys = settings, web, keys
        self.uploads = Uploads(web, settings.max_images)
        self.counting = Counting(lambda: self.uploads.under_way)
        self.waiters = Waiters[tuple[str, str]]()
        """Streams, by tenant and id of their job."""
        self.stopping = False
        """Whether what would go on for ever is to end."""
        self._client = Client(settings)
        self.allowances = self._client.allowances
        self._statuses = self._client.statuses()
        self._announcements = self._client.announcements(self._ended, self._statuses.hear)
        self._tenants: dict[str, Client] = {}
        self._quick = ThreadPoolExecutor(web.threads, "quick")
        self._heavy = ThreadPoolExecutor(HEAVY_THREADS, "heavy")

    def client(self, tenant: str) -> Client:
        """That of a tenant; all share their connections."""
        if tenant not in self._tenants:
            self._tenants[tenant] = self._client.of_tenant(tenant)
        return self._tenants[tenant]

    @property
    def limits(self) -> Limits:
        """What this gateway takes."""
        return Limits(
            max_upload_bytes=self.web.max_upload_bytes,
            max_json_bytes=self.web.max_json_bytes,
            max_file_bytes=self.settings.max_file_bytes,
            max_images=self.settings.max_images,
        )

    async def status(self, tenant: str, job_id: str, *, changed: bool = False) -> Status:
        """Where a job stands; ``changed``: after we did something to it. Raises JobNotFound."""
        if changed:
            self._statuses.changed(tenant, job_id)
        return await self.quick(lambda: self._statuses.look(tenant, job_id))

    async def quick(self, action: Callable[[], T]) -> T:
        """Do what waits for Redis or the store in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._quick, action)

    async def heavy(self, action: Callable[[], T]) -> T:
        """The same for what computes, so that it does not keep others waiting."""
        return await asyncio.get_running_loop().run_in_executor(self._heavy, action)

    async def ready(self) -> tuple[bool, bool]:
        """Whether Redis and the store answer."""

        def answers(ping: Callable[[], None]) -> bool:
            try:
                ping()
            except MedGemmaError:
                return False
            return True

        redis, store = await asyncio.gather(
            self.quick(lambda: answers(self._client.ping_redis)),
            self.quick(lambda: answers(self._client.ping_store)),
        )
        return redis, store

    def start(self) -> None:
        """Hear of jobs that end, from here on."""
        self._announcements.start()

    def stop(self) -> None:
        """End whatever would go on for ever."""
        self.stopping = True
        self.waiters.ring_all()

    def close(self) -> None:
        self._announcements.stop()
        self._quick.shutdown(wait=False, cancel_futures=True)
        self._heavy.shutdown(wait=False, cancel_futures=True)

    def _ended(self, tenant: str, job_id: str) -> None:
        self._statuses.changed(tenant, job_id)
        self.waiters.ring((tenant, job_id))


async def backend(request: Request) -> Backend:
    """That of the application."""
    found: Backend = request.app.state.backend
    return found
