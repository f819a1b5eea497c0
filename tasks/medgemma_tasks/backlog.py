"""What waits on the queues: how much, since when, and a job's place in it.

Messages are pushed at a list's head and taken from its tail, so the tail is the front of the queue.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from medgemma_tasks.in_hand import PAGE, UNACKED, items, jobs_of, shard_in
from medgemma_tasks.queue import QUEUES, queue_names

if TYPE_CHECKING:
    from redis import Redis

MOST_AHEAD = 2000
"""Jobs, and messages of a queue, that are counted for a place; beyond, it is that many or more."""

FRONT = 200
"""Messages that are read at a time for a place: most are near the front."""

SubmittedAt = Callable[[str, str], datetime | None]
"""When a job, by tenant and id, was submitted; None where that is not known."""

_QUEUE = re.compile(r"medgemma\.(?P<slug>.+)\.(?P<kind>interactive|batch)")
_SEPARATOR = "\x06\x16"
"""Between a queue's name and a priority, in the key of kombu's list."""


@dataclass
class Waiting:
    """One queue of a model."""

    model: str
    kind: str
    """``interactive``, which goes first, or ``batch``."""
    messages: int = 0
    """On the queue."""
    jobs: int = 0
    """In those messages."""
    delivered: int = 0
    """Jobs in messages that a worker took and has not acknowledged."""
    oldest: datetime | None = None
    """When the first job of the message that is next was submitted."""


def waiting(redis: Redis, submitted_at: SubmittedAt) -> list[Waiting]:
    """All queues that hold anything, or of which anything is delivered. Reads every message, as
    the reconciler does. May raise RedisError.

    redis: a connection that decodes, and lets what is no UTF-8 pass.
    """
    found: dict[str, Waiting] = {}

    def of(key: str) -> Waiting | None:
        match = _QUEUE.fullmatch(key.partition(_SEPARATOR)[0])
        if match is None:
            return None
        model = match["slug"].replace("--", "/")
        return found.setdefault(match[0], Waiting(model, match["kind"]))

    for key in redis.scan_iter(QUEUES, PAGE, _type="LIST"):
        if (queue := of(key)) is not None:
            for item in items(redis, key):
                queue.messages += 1
                queue.jobs += len(jobs_of(item))
            ages = (queue.oldest, _oldest(redis, key, submitted_at))
            queue.oldest = min(filter(None, ages), default=None)
    for _, item in redis.hscan_iter(UNACKED, count=PAGE):
        if (queue := of(_came_from(item))) is not None:
            queue.delivered += len(jobs_of(item))
    return sorted(found.values(), key=lambda queue: (queue.model, queue.kind != "interactive"))


def place(redis: Redis, model: str, job_id: str) -> int | None:
    """How many jobs go before this one; MOST_AHEAD stands for that many or more.

    None where it is not on the queue: a worker has it, or it ended, or was lost. While messages are
    taken the count may be off by some. May raise RedisError.
    """
    ahead = 0
    for queue in queue_names(model):
        for start in range(0, MOST_AHEAD, FRONT):
            page = redis.lrange(queue, -start - FRONT, -start - 1)
            for item in reversed(page):
                jobs = jobs_of(str(item))
                if job_id in jobs:
                    return min(ahead + jobs.index(job_id), MOST_AHEAD)
                ahead += len(jobs)
            if len(page) < FRONT:
                break  # the next queue
            if ahead >= MOST_AHEAD:
                return _beyond(redis, job_id)
        else:
            return _beyond(redis, job_id)
    return None


def _beyond(redis: Redis, job_id: str) -> int | None:
    """The place of one that is not among the first, unless a worker has it (if we may see that)."""
    from redis.exceptions import NoPermissionError

    delivered = (jobs_of(item) for _, item in redis.hscan_iter(UNACKED, count=PAGE))
    try:
        return None if any(job_id in jobs for jobs in delivered) else MOST_AHEAD
    except NoPermissionError:  # a client of its own user: see deploy/redis/users.acl
        return MOST_AHEAD


def _oldest(redis: Redis, queue: str, submitted_at: SubmittedAt) -> datetime | None:
    for item in reversed(redis.lrange(queue, -FRONT, -1)):
        shard = shard_in(str(item))
        if shard is not None:
            return submitted_at(shard.tenant, shard.jobs[0])
    return None


def _came_from(item: str) -> str:
    """The queue of a message in ``unacked``: the message, its exchange, its routing key."""
    try:
        return str(json.loads(item)[2])
    except Exception:  # noqa: BLE001 - whoever can write to Redis can put anything there
        return ""
