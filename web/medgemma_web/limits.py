"""What a key may do: so many requests a minute, so many jobs a day. Counted in Redis, for all
gateways together."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends

from medgemma_client.errors import BrokerUnreachable, QuotaUsedUp, TooManyRequests
from medgemma_web.access import Service, caller
from medgemma_web.backend import Backend
from medgemma_web.keys import ApiKey

log = logging.getLogger(__name__)


async def limited(key: Annotated[ApiKey, Depends(caller)], service: Service) -> ApiKey:
    """The key, if it may make one more request. Raises TooManyRequests.

    With Redis away nobody is limited: what is in the store can still be read, and nothing else
    works then.
    """
    most = key.requests_per_minute or service.web.requests_per_minute
    wait = 0
    with suppress(BrokerUnreachable):
        wait = await service.quick(lambda: service.allowances.take(key.tenant, key.id, most))
    if wait > 0:
        raise TooManyRequests(
            f"This key may make {most} requests a minute; come again in {wait} s.",
            retry_after=wait,
        )
    return key


@asynccontextmanager
async def one_job(service: Backend, key: ApiKey) -> AsyncIterator[None]:
    """Count a job of today, and uncount it where it is not submitted. Raises QuotaUsedUp,
    BrokerUnreachable."""
    most, now = key.jobs_per_day or service.web.jobs_per_day, datetime.now(UTC)
    wait = await service.quick(lambda: service.allowances.take_job(key.tenant, key.id, most, now))
    if wait > 0:
        raise QuotaUsedUp(
            f"This key may submit {most} jobs a day (UTC); that is used up.",
            limit=most,
            retry_after=wait,
        )
    try:
        yield
    except BaseException:
        await service.quick(lambda: service.allowances.give_back_job(key.tenant, key.id, now))
        raise


Caller = Annotated[ApiKey, Depends(limited)]
