"""What waits on the queues: how much, since when, and each job's place.

Messages are pushed at a list's head and taken from its tail, so the tail is the front of the queue.
A client may not read a queue, where other tenants' jobs are, so its jobs' places are told to it
(``medgemma_worker.supervisor.places``); that also costs the same however many wait.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from medgemma_tasks.in_hand import PAGE, UNACKED, items, jobs_of, shard_in
from medgemma_tasks.layout import check_job_id, check_tenant
from medgemma_tasks.queue import QUEUES, queue_names

if TYPE_CHECKING:
    from redis import Redis

MOST_AHEAD = 2000
"""Jobs, and messages of a queue, of which the places are told. Of one behind them none is."""

FRONT = 1000
"""Messages that are read at a time for that."""

PLACE_LIFETIME = 10
"""Seconds for which a place holds unless it is told again."""

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
        named = queue_of(key)
        return None if named is None else found.setdefault("/".join(named), Waiting(*named))

    for key in redis.scan_iter(QUEUES, PAGE, _type="LIST"):
        if (queue := of(key)) is not None:
            for item in items(redis, key):
                queue.messages += 1
                queue.jobs += len(jobs_of(item))
            first = next_of(redis, key)
            ages = (queue.oldest, None if first is None else submitted_at(*first))
            queue.oldest = min(filter(None, ages), default=None)
    for _, item in redis.hscan_iter(UNACKED, count=PAGE):
        if (queue := of(came_from(item))) is not None:
            queue.delivered += len(jobs_of(item))
    return sorted(found.values(), key=lambda queue: (queue.model, queue.kind != "interactive"))


def queue_of(key: str) -> tuple[str, str] | None:
    """The model and the kind of the queue that a list in Redis is part of; None where of none."""
    match = _QUEUE.fullmatch(key.partition(_SEPARATOR)[0])
    return None if match is None else (match["slug"].replace("--", "/"), match["kind"])


def next_of(redis: Redis, queue: str) -> tuple[str, str] | None:
    """Tenant and id of the job that is next on a queue, or None. May raise RedisError."""
    for item in reversed(redis.lrange(queue, -PAGE, -1)):
        shard = shard_in(str(item))
        if shard is not None:
            return shard.tenant, shard.jobs[0]
    return None


def came_from(item: str) -> str:
    """The queue of a message in ``unacked``: the message, its exchange, its routing key."""
    try:
        return str(json.loads(item)[2])
    except Exception:  # noqa: BLE001 - whoever can write to Redis can put anything there
        return ""


def tell_places(redis: Redis, model: str) -> None:
    """Write how many jobs go before each on a model's queues. May raise RedisError."""
    pipe = redis.pipeline(transaction=False)
    for ahead, (tenant, job_id) in enumerate(_in_order(redis, model)):
        pipe.set(_place_key(tenant, job_id), ahead, ex=PLACE_LIFETIME)
    pipe.execute()


def place(redis: Redis, tenant: str, job_id: str) -> int | None:
    """How many jobs go before this one, as it was told of late. None where a worker has it or had
    it, where MOST_AHEAD go before it, or where nobody tells. May raise RedisError."""
    told = str(redis.get(_place_key(tenant, job_id)) or "")
    return int(told) if told.isdecimal() else None


def _in_order(redis: Redis, model: str) -> list[tuple[str, str]]:
    """Tenant and id of the jobs that are next. While messages are taken some may be passed over."""
    found: dict[tuple[str, str], None] = {}
    for queue in queue_names(model):
        for start in range(0, MOST_AHEAD, FRONT):
            page = redis.lrange(queue, -start - FRONT, -start - 1)
            for item in reversed(page):
                shard = shard_in(str(item))
                if shard is not None:
                    found.update(dict.fromkeys((shard.tenant, job) for job in shard.jobs))
            if len(page) < FRONT:
                break  # the next queue
        else:
            break
        if len(found) >= MOST_AHEAD:
            break
    return list(found)[:MOST_AHEAD]


def _place_key(tenant: str, job_id: str) -> str:
    return f"medgemma:place:{check_tenant(tenant)}:{check_job_id(job_id)}"
