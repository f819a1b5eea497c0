"""Which jobs Redis knows of: queued, delivered and not acknowledged, or in a worker's hands.

Redis can lose all of it, and kombu one message: it takes it off its list before it notes that it
is delivered. What workers hold they therefore say themselves, again and again, in a key of their
own, so that it is known once more soon after Redis lost its memory.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from medgemma_tasks.queue import LARGEST_MESSAGE, QUEUES, Shard

if TYPE_CHECKING:
    from redis import Redis

LONGEST_INTERVAL = 5.0
"""Seconds between two words of a worker at most; a quarter of the visibility timeout where that is
less, as tests have it."""

MISSED = 3
"""After so many intervals without a word a worker's key is gone, or, after Redis lost its memory,
back."""

PAGE = 1000
"""Messages or keys that one command returns; a message is about a kilobyte."""

UNACKED = "unacked"
"""kombu's hash of the messages that are delivered and not acknowledged."""

_RUNNING = "medgemma:running:"


def interval(visibility_timeout: float) -> float:
    """Seconds between two words of a worker about what it holds."""
    return min(LONGEST_INTERVAL, visibility_timeout / 4)


def settled_after(visibility_timeout: float) -> float:
    """Seconds after which every living worker has spoken, whatever Redis lost before."""
    return MISSED * interval(visibility_timeout)


def tell(redis: Redis, worker: str, job_ids: Iterable[str], visibility_timeout: float) -> None:
    """Say what a worker holds; it is forgotten unless it is said again. May raise RedisError."""
    lifetime = round(1000 * settled_after(visibility_timeout))
    redis.set(_RUNNING + worker, " ".join(sorted(job_ids)), px=lifetime)


def held(redis: Redis) -> Iterator[tuple[str, set[str]]]:
    """What each worker said that it holds: its model as one part of a path, and the ids. May raise
    RedisError."""
    for key in redis.scan_iter(_RUNNING + "*", PAGE, _type="STRING"):
        slug = str(key).removeprefix(_RUNNING).partition(":")[0]
        yield slug, set(str(redis.get(key) or "").split())


def look(redis: Redis) -> set[str]:
    """All ids that Redis knows of now, of every tenant: an id is a hash of its tenant too.

    In the order in which a message travels, so that one on its way is met at its next place. One
    that is just being taken, or given back, can still be missed: look twice. May raise RedisError.

    redis: a connection that decodes, and lets what is no UTF-8 pass.
    """
    seen: set[str] = set()
    for queue in redis.scan_iter(QUEUES, PAGE, _type="LIST"):
        for item in items(redis, queue):
            seen.update(jobs_of(item))
    for _, item in redis.hscan_iter(UNACKED, count=PAGE):
        seen.update(jobs_of(item))
    for _, jobs in held(redis):
        seen.update(jobs)
    return seen


def jobs_of(item: str) -> tuple[str, ...]:
    """The jobs of a message as it lies in a queue or in ``unacked``; none, where it is none of ours
    (whoever can write to Redis can put anything there)."""
    shard = shard_in(item)
    return () if shard is None else shard.jobs


def shard_in(item: str) -> Shard | None:
    """The shard in a message as ``jobs_of`` takes it; None, where it is none of ours."""
    if len(item) > LARGEST_MESSAGE:
        return None
    try:
        message = json.loads(item)
        if isinstance(message, list):  # unacked: the message, its exchange, its routing key
            message = message[0]
        return shard_of(json.loads(base64.b64decode(message["body"])))
    except Exception:  # noqa: BLE001 - it can be anything, and so can what it leads to
        return None


def shard_of(body: Any) -> Shard:
    """The shard in the decoded body of a message: arguments, keywords, options.

    Raises whatever reading raises where there is none.
    """
    (argument,), _, _ = body
    return Shard.model_validate(argument)


def items(redis: Redis, queue: str) -> Iterator[str]:
    """All messages of a queue, those that come last first. May raise RedisError."""
    # From the head, where messages are pushed: what comes meanwhile repeats some and hides none.
    start = 0
    while page := redis.lrange(queue, start, start + PAGE - 1):
        yield from map(str, page)
        start += PAGE
