"""The lease: the parent keeps the messages it holds from being given to others.

An unacknowledged message comes back after the visibility timeout, which is short so that a dead
worker's job is soon another's. A living one renews it. The parent does, because it holds the
message also while its child loads the model; what a child can hang in does not stop it, so the
hard time limit, not the lease, ends a hung job.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from celery.worker import state
from redis.exceptions import RedisError

from medgemma_worker.parent.hosted import hosted_by
from medgemma_worker.parent.repeated import Repeated

log = logging.getLogger(__name__)

LONGEST_INTERVAL = 10.0
"""Seconds between two renewals at most; a quarter of the visibility timeout where that is less."""


class Lease(Repeated):
    """A step of the consumer: while it consumes, its unacknowledged messages stay its own."""

    def begin(self, consumer: Any) -> tuple[float, Callable[[], None]]:
        options = consumer.app.conf.broker_transport_options
        interval = min(LONGEST_INTERVAL, options["visibility_timeout"] / 4)
        return interval, partial(renew, consumer)


def renew(consumer: Any) -> None:
    """Say that the messages held here are alive. Never raises: the next time may do better."""
    channel = channel_of(consumer)
    if channel is None:
        return
    # After a reconnection a running job's message belongs to a channel that is gone.
    running = {request.message.delivery_tag for request in list(state.reserved_requests)}
    tags = running | set(unacknowledged(channel))
    board = consumer.app.board
    if (guest := hosted_by(board, board.pid)) is not None:
        tags.add(guest.tag)
    if not tags:
        return
    now = time.time()
    try:
        with channel.conn_or_acquire() as client:
            # XX: only what is still there. A message that was given back is not ours any more.
            client.zadd(channel.unacked_index_key, dict.fromkeys(tags, now), xx=True)
    except (RedisError, OSError) as error:
        log.warning(
            "the lease of %d messages was not renewed (%s)", len(tags), type(error).__name__
        )


def channel_of(consumer: Any) -> Any:
    """The channel of a consumer; None while it has no connection, when kombu takes its apart."""
    channel = None if consumer.task_consumer is None else consumer.task_consumer.channel
    return None if channel is None or channel.connection is None else channel


def unacknowledged(channel: Any) -> dict[str, Any]:
    """The messages of a channel, by their tags, that were neither acknowledged nor given back.

    kombu keeps one that was until the next comes: an idle worker would hold its last for ever, and
    of a job whose message was lost nobody would know that it is nowhere.
    """
    qos = channel.qos
    return {tag: item for tag, item in list(qos._delivered.items()) if tag not in qos._dirty}
