"""What this worker holds, said by its parent every few seconds: see ``medgemma_tasks.in_hand``.

The parent says it, as it renews the lease, because it holds messages also while its child loads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from celery.worker import state
from redis.exceptions import RedisError

from medgemma_tasks.in_hand import interval, shard_of, tell
from medgemma_tasks.layout import model_slug
from medgemma_worker.parent.hosted import hosted_by
from medgemma_worker.parent.lease import channel_of, unacknowledged
from medgemma_worker.parent.repeated import Repeated

log = logging.getLogger(__name__)


class Running(Repeated):
    """A step of the consumer: while it consumes, its jobs are known to be in hand."""

    def begin(self, consumer: Any) -> tuple[float, Callable[[], None]]:
        say(consumer)  # a worker that comes back after Redis was away is not waited for
        return interval(_visibility_timeout(consumer)), partial(say, consumer)


def say(consumer: Any) -> None:
    """Tell Redis which jobs are held here. Never raises: the next time may do better."""
    channel = channel_of(consumer)
    if channel is None:
        return
    # As the lease does: after a reconnection a running job's message is not the channel's.
    messages = [request.message for request in list(state.reserved_requests)]
    messages += unacknowledged(channel).values()
    jobs = {job for message in messages for job in _jobs(message)}
    board = consumer.app.board
    if (guest := hosted_by(board, board.pid)) is not None:
        jobs.update(guest.jobs)
    if not jobs:
        return
    # Workers of two models may share a host, a device and so a name.
    worker = f"{model_slug(consumer.app.live.settings.model)}:{consumer.hostname}"
    try:
        with channel.conn_or_acquire() as client:
            tell(client, worker, jobs, _visibility_timeout(consumer))
    except (RedisError, OSError) as error:
        log.warning("%d jobs in hand were not made known (%s)", len(jobs), type(error).__name__)


def _jobs(message: Any) -> tuple[str, ...]:
    try:
        return shard_of(message.payload).jobs
    except Exception:  # noqa: BLE001 - a remote command, for one
        return ()


def _visibility_timeout(consumer: Any) -> float:
    return float(consumer.app.conf.broker_transport_options["visibility_timeout"])
