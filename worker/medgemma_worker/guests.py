"""Guests: interactive jobs that the child takes between two steps of a batch shard.

A shard takes minutes, and whoever sits before a screen waits for seconds. The parent, which holds
the shard, asks the queue for nothing meanwhile, so the child does, on a connection of its own. It
names its guest on the board; the parent renews its lease, and gives it back should the child die.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medgemma_tasks.connection import connect
from medgemma_tasks.dropped import count
from medgemma_tasks.in_hand import shard_in
from medgemma_tasks.queue import Shard, queue_names
from medgemma_tasks.settings import Settings
from medgemma_tasks.tracing import TRACEPARENT
from medgemma_worker import unacked
from medgemma_worker.parent.intake import DROPPED, rewritten
from medgemma_worker.places import MOST_GUESTS

if TYPE_CHECKING:
    from redis import Redis

log = logging.getLogger(__name__)

AWAY_PAUSE = 5.0
"""Seconds without a question to Redis after one it did not answer: the device stands still."""

LONGEST_WAIT = 1.0
"""Seconds for an answer of Redis, for the same reason."""


@dataclass(frozen=True)
class Guest:
    """A message that the child took by itself."""

    shard: Shard
    tag: str
    """kombu's delivery tag, of this taking alone."""
    redis: Redis
    sent_in: str | None = None
    """Its place in a trace: the header ``traceparent``."""

    def done(self) -> None:
        """Acknowledge it, after its jobs have their marks. Never raises: it would come back, and
        its jobs be passed over."""
        from redis.exceptions import RedisError

        try:
            unacked.acknowledge(self.redis, self.tag)
        except (RedisError, OSError) as error:
            log.warning("a guest is not acknowledged (%s)", type(error).__name__)

    def give_back(self) -> None:
        """Put it on its queue again. Never raises: it comes back by itself, later."""
        from redis.exceptions import RedisError

        try:
            unacked.give_back(self.redis, self.tag)
        except (RedisError, OSError) as error:
            log.warning("a guest is not given back (%s)", type(error).__name__)


class Guests:
    """Takes guests. Made in the child: the connection, made at the first use, is its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._queue = queue_names(settings.model)[0]
        self._redis: Redis | None = None
        self._not_before = 0.0

    def take(self) -> Guest | None:
        """The interactive queue's next message, if one waits. Never raises.

        None also where Redis is away, which is asked again only after a while; where another
        worker is quicker; and where the message is of more jobs than a guest may have.
        """
        from redis.exceptions import RedisError

        if time.monotonic() < self._not_before:
            return None
        try:
            return self._take(self._connected())
        except (RedisError, OSError) as error:
            log.warning("no guests for %d s (%s)", AWAY_PAUSE, type(error).__name__)
            self._not_before = time.monotonic() + AWAY_PAUSE
            return None

    def close(self) -> None:
        """Close the connection. The next taking makes another."""
        if self._redis is not None:
            self._redis.close()
            self._redis = None

    def _take(self, redis: Redis) -> Guest | None:
        item = unacked.first(redis, self._queue)
        if item is None:
            return None
        soft, hard = self._settings.soft_time_limit, self._settings.hard_time_limit
        try:
            message = rewritten(item, self._queue, soft, hard)
        except Exception:  # noqa: BLE001 - it can be anything, and so can what it leads to
            if unacked.drop(redis, self._queue, item):
                log.error(DROPPED)
                count(redis, self._queue)
            return None
        shard = shard_in(message.decode())
        if shard is None or len(shard.jobs) > MOST_GUESTS:
            return None  # a worker that has nothing else in hand takes it
        if not unacked.take(redis, self._queue, item, message):
            return None
        taken = json.loads(message)
        tag, sent_in = taken["properties"]["delivery_tag"], taken["headers"].get(TRACEPARENT)
        return Guest(shard, tag, redis, sent_in)

    def _connected(self) -> Redis:
        if self._redis is None:
            wait = min(LONGEST_WAIT, self._settings.connect_timeout)
            self._redis = connect(self._settings, decode=False, timeout=wait)
        return self._redis
