"""How many jobs of each model there are: those that wait, and those that a worker has.

By their ids, since one job can be seen at several places: a message that a worker took is among the
delivered ones, and its worker says besides that it holds it; one whose lease lapsed is on its queue
again while it still runs. Whoever scales a fleet by these numbers must not count a job twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from medgemma_tasks import in_hand
from medgemma_tasks.backlog import came_from, next_of, queue_of
from medgemma_tasks.in_hand import PAGE, UNACKED, items, jobs_of
from medgemma_tasks.queue import QUEUES

if TYPE_CHECKING:
    from redis import Redis

KINDS = ("interactive", "batch")
"""Of a model's queues."""


@dataclass
class Jobs:
    """The jobs of one model, by their ids."""

    queued: dict[str, set[str]] = field(default_factory=lambda: {kind: set() for kind in KINDS})
    """By the kind of their queue."""
    held: set[str] = field(default_factory=set)
    """In messages that a worker has: some of them may have ended, and their message has not."""
    first: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Tenant and id of the job that is next, by the kind of its queue."""

    @property
    def pending(self) -> int:
        """Those that wait and those that a worker has, each counted once."""
        return len(self.held.union(*self.queued.values()))


def census(redis: Redis) -> dict[str, Jobs]:
    """The jobs by model; nothing of a model that has none. Reads every message, as the reconciler
    does, and in the order in which one travels, so that none is passed over. May raise RedisError.

    redis: a connection that decodes, and lets what is no UTF-8 pass.
    """
    found: dict[str, Jobs] = {}
    for key in redis.scan_iter(QUEUES, PAGE, _type="LIST"):
        if (named := queue_of(key)) is not None:
            model, kind = named
            jobs = found.setdefault(model, Jobs())
            if (first := next_of(redis, key)) is not None:
                jobs.first[kind] = first
            for item in items(redis, key):
                jobs.queued[kind].update(jobs_of(item))
    for _, item in redis.hscan_iter(UNACKED, count=PAGE):
        if (named := queue_of(came_from(item))) is not None:
            found.setdefault(named[0], Jobs()).held.update(jobs_of(item))
    for slug, ids in in_hand.held(redis):
        found.setdefault(slug.replace("--", "/"), Jobs()).held.update(ids)
    return found
