"""The client for asyncio: the same names, and nothing of it holds up the loop."""

from __future__ import annotations

from medgemma_client.aio.backfill import AsyncBackfill, AsyncItem
from medgemma_client.aio.client import AsyncClient
from medgemma_client.aio.job import AsyncJob
from medgemma_client.aio.result import AsyncResult

__all__ = ["AsyncBackfill", "AsyncClient", "AsyncItem", "AsyncJob", "AsyncResult"]
