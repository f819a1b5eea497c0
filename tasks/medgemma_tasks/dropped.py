"""How much was dropped unread or unrun, by place: whoever watches the queue is told.

A worker that meets rubbish must go on, so nobody would notice it but for these numbers. Each lives
for a week after the last one was counted.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redis import Redis

log = logging.getLogger(__name__)

NO_REQUEST = "no-request"
"""The place of jobs that a well-formed message names and nobody ever submitted. Every other place
is a queue: messages on it that were no shard of jobs."""

LIFETIME = 7 * 86_400
"""Seconds."""

_PREFIX = "medgemma:dropped:"


def count(redis: Redis, place: str) -> None:
    """One more was dropped. Never raises: it is in the log too, and the worker has to go on."""
    from redis.exceptions import RedisError

    try:
        pipe = redis.pipeline(transaction=True)
        pipe.incr(_PREFIX + place)
        pipe.expire(_PREFIX + place, LIFETIME)
        pipe.execute()
    except (RedisError, OSError) as error:
        log.warning("what was dropped was not counted (%s)", type(error).__name__)


def counted(redis: Redis) -> dict[str, int]:
    """How many were dropped, by place. ``redis`` is one that decodes. May raise RedisError."""
    found: dict[str, int] = {}
    for key in redis.scan_iter(_PREFIX + "*", _type="STRING"):
        number = str(redis.get(key) or "")
        if number.isdecimal():  # it may be gone by now, and anybody may have written it
            found[key.removeprefix(_PREFIX)] = int(number)
    return dict(sorted(found.items()))
