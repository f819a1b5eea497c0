"""What Redis keeps of jobs: all keys of ``LiveState`` that are named after one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from redis import Redis

PAGE = 1000
"""Keys that Redis looks at in one command."""

_OF_A_JOB = re.compile(
    "medgemma:(?!lock|running)[a-z-]+:(?P<tenant>[a-z0-9][a-z0-9-]{0,62}):(?P<job>[0-9a-f]{32})"
)
"""Of whatever kind, so that no new one is forgotten; a lock or a worker's word is no job's key."""


class Remembered(NamedTuple):
    """One key, and whose job it is about."""

    tenant: str
    job_id: str
    key: str


def remembered(redis: Redis) -> Iterator[Remembered]:
    """All there are, of every tenant, in no order; some come twice. May raise RedisError."""
    for key in redis.scan_iter("medgemma:*:*:*", PAGE):
        match = _OF_A_JOB.fullmatch(key)
        if match is not None:
            yield Remembered(match["tenant"], match["job"], key)
