"""What is left in Redis, in the workers' temporary folders, and of the workers themselves."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from medgemma_tasks.in_hand import UNACKED
from medgemma_tasks.queue import queue_names
from tests.faults.chaos.asks import Asked, Kind
from tests.faults.chaos.fleet import MAX_ATTEMPTS, Worker

if TYPE_CHECKING:
    from redis import Redis

    from medgemma_tasks.live import LiveState

TEMPORARY = "no temporary file is left"
KEYS = "after the sweep Redis has no key of a finished job, and none that stays for ever"
BOUNDED = "no poison job was started more often than it is allowed"
QUEUES = "the queues are empty, and nothing is unacknowledged"

BINDING = "_kombu.binding"
"""kombu's own notes of which queue is bound to which exchange: three, however many jobs."""

_ID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def waiting(redis: Redis, model: str) -> int:
    """Messages that are queued or unacknowledged."""
    return sum(int(redis.llen(name)) for name in queue_names(model)) + int(redis.hlen(UNACKED))


def keys_left(redis: Redis, asked: Iterable[Asked]) -> list[str]:
    """Keys that should not be there: of a finished job, or without a time to live."""
    job_ids = {job.job_id for job in asked}
    found = []
    for key in redis.scan_iter("*", 1000):
        of_a_job = key.startswith("medgemma:") and job_ids & set(re.findall("[0-9a-f]{32}", key))
        for_ever = redis.ttl(key) == -1 and not key.startswith(BINDING)
        if of_a_job or for_ever:
            found.append(f"{key} ({'of a finished job' if of_a_job else 'without an end'})")
    return found


def kinds_swept(live: LiveState, asked: Iterable[Asked]) -> dict[str, int]:
    """The keys of finished jobs, before the sweep, by what they tell of these."""
    job_ids = {job.job_id for job in asked}
    found = {one.key for one in live.remembered() if one.job_id in job_ids}
    return dict(Counter(key.split(":")[1] for key in found))


def kinds_of_keys(redis: Redis) -> dict[str, int]:
    """What is in Redis, ids left out, and how many keys of each kind."""
    return dict(Counter(_ID.sub("*", key) for key in redis.scan_iter("*", 1000)))


def files_left(workers: Iterable[Worker]) -> list[str]:
    """Files in the folders that workers were given for temporary ones, which were empty at first.

    A worker that is killed leaves an empty folder of billiard's (pymp-*): nobody is there to remove
    it, so it is counted (``folders_left``) and not held against it.
    """
    return [
        f"{worker.name}: {path.relative_to(worker.temporary)}"
        for worker in workers
        for path in worker.temporary.rglob("*")
        if not path.is_dir()
    ]


def folders_left(workers: Iterable[Worker]) -> int:
    """Empty folders there."""
    return sum(path.is_dir() for worker in workers for path in worker.temporary.rglob("*"))


def starts(ledger: Iterable[str]) -> Counter[str]:
    """How often the engine was started, by job."""
    return Counter(line.split()[1] for line in ledger if line.startswith("start "))


def too_often(started: Counter[str], asked: Iterable[Asked], limit: int) -> list[str]:
    """Poison jobs that killed more processes than that. (Others are also started again, uncounted,
    when the store was away: nothing bounds that, nor should it.)"""
    return [
        f"job {job.job_id}: {started[job.job_id]} starts, at most {limit} are allowed"
        for job in asked
        if job.ask.kind is Kind.POISON and started[job.job_id] > limit
    ]


def wasted(started: Counter[str], asked: Iterable[Asked]) -> int:
    """Starts beyond those that jobs needed: one each time a job was put onto the queue, and of a
    poison job all that it was allowed. FLUSHALL makes a poison job's count begin anew."""
    more = 0
    for job in asked:
        needed = MAX_ATTEMPTS if job.ask.kind is Kind.POISON else 1 + job.put_back
        more += max(0, started[job.job_id] - needed)
    return more
