"""What the routes work with: a client for each tenant, and threads to call it in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from fastapi import Request

from medgemma_client import Client
from medgemma_client.models import Settings
from medgemma_web.keys import KeyRing
from medgemma_web.settings import WebSettings
from medgemma_web.uploads import Uploads

T = TypeVar("T")

HEAVY_THREADS = 4
"""Images that are decoded, and reports that are drawn, beside each other."""


class Backend:
    """All that lives as long as the gateway does."""

    def __init__(self, settings: Settings, web: WebSettings, keys: KeyRing) -> None:
        self.settings, self.web, self.keys = settings, web, keys
        self.uploads = Uploads(web, settings.max_images)
        self._client = Client(settings)
        self._tenants: dict[str, Client] = {}
        self._quick = ThreadPoolExecutor(web.threads, "quick")
        self._heavy = ThreadPoolExecutor(HEAVY_THREADS, "heavy")

    def client(self, tenant: str) -> Client:
        """That of a tenant; all share their connections."""
        if tenant not in self._tenants:
            self._tenants[tenant] = self._client.of_tenant(tenant)
        return self._tenants[tenant]

    async def quick(self, action: Callable[[], T]) -> T:
        """Do what waits for Redis or the store in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._quick, action)

    async def heavy(self, action: Callable[[], T]) -> T:
        """The same for what computes, so that it does not keep others waiting."""
        return await asyncio.get_running_loop().run_in_executor(self._heavy, action)

    def close(self) -> None:
        self._quick.shutdown(wait=False, cancel_futures=True)
        self._heavy.shutdown(wait=False, cancel_futures=True)


async def backend(request: Request) -> Backend:
    found: Backend = request.app.state.backend
    return found
