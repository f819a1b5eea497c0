"""How far a job is, as server-sent events: each change of its status, until it has ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from medgemma_client.errors import JobNotFound, ServiceError
from medgemma_client.models import Status
from medgemma_web.answers import JobStatus
from medgemma_web.backend import Backend
from medgemma_web.keys import ApiKey

LOOK = 0.5
"""Seconds between two looks at a job; that it ended is heard at once."""

HEARTBEAT = b": still here\n\n"
"""A comment, which readers pass over; it keeps proxies from closing the connection."""


async def stream(service: Backend, key: ApiKey, first: Status) -> AsyncIterator[bytes]:
    """The events of a job. It ends after a terminal one, or where the gateway stops or the key is
    removed: then a reader connects again, as browsers do by themselves."""
    loop, tenant, job_id = asyncio.get_running_loop(), key.tenant, first.job_id
    status, told = first, loop.time()
    yield _event(status)
    with service.waiters.hearing((tenant, job_id)) as bell:
        while not status.state.terminal and not service.stopping:
            await bell.wait(LOOK)
            if not service.keys.knows(key):
                return
            before = status
            try:
                status = await service.status(tenant, job_id)
            except JobNotFound:
                return  # it was purged
            except ServiceError:
                pass  # the store is away: it may come back
            if status != before:
                told = loop.time()
                yield _event(status)
            elif loop.time() - told >= service.web.heartbeat:
                told = loop.time()
                yield HEARTBEAT


def _event(status: Status) -> bytes:
    return f"event: status\ndata: {JobStatus.of(status).model_dump_json()}\n\n".encode()
