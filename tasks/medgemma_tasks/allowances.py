"""How much a caller may ask of a gateway, and what it asked under which key: kept in Redis, so that
several gateways share it. If Redis forgets, everybody may ask anew; no job is doubled by that.
"""

from __future__ import annotations

import hashlib
from collections import deque
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from medgemma_tasks.connection import Connected
from medgemma_tasks.errors import BrokerUnreachable
from medgemma_tasks.layout import check_job_id, check_tenant
from medgemma_tasks.settings import Settings

if TYPE_CHECKING:
    from redis import Redis

REMEMBERED = 86_400
"""Seconds for which it is known what an Idempotency-Key was used for."""

_TAKE = """\
local time = redis.call('time')
local now = time[1] * 1000000 + time[2]
local step, room = 60000000 / ARGV[1], 60000000
local next = math.max(tonumber(redis.call('get', KEYS[1]) or '0'), now) + step
if next - now > room then return math.ceil((next - now - room) / 1000000) end
redis.call('set', KEYS[1], string.format('%.0f', next), 'PX', math.ceil((next - now) / 1000))
return 0"""
"""The generic cell rate algorithm (ITU-T I.371): the moment at which the next request would be on
time is kept, and may lie a minute ahead at most. So a minute's worth may come at once."""

_COUNT = """\
local count = redis.call('incrby', KEYS[1], ARGV[1])
if count < 0 then redis.call('del', KEYS[1]) return 0 end
redis.call('expire', KEYS[1], ARGV[2])
return count"""


class Asked(NamedTuple):
    """What an Idempotency-Key was used for."""

    question: str
    """A hash of all that was asked."""
    job_id: str


class Allowances(Connected):
    """Of callers, each by its tenant and a name of its own. Calls may raise BrokerUnreachable."""

    def __init__(self, settings: Settings, connection: Redis | None = None) -> None:
        super().__init__(settings, connection)
        self._owed = deque[tuple[str, str, datetime]]()
        """Jobs to be given back once Redis can be reached: tenant, caller, when counted."""

    def take(self, tenant: str, caller: str, per_minute: int) -> int:
        """Count a request; 0 where it may be made, else how many seconds to wait."""
        self._settle()
        with self._reached():
            return int(self._redis.eval(_TAKE, 1, _key("rate", tenant, caller), per_minute))

    def take_job(self, tenant: str, caller: str, per_day: int, at: datetime) -> int:
        """Count a job of a day (UTC); 0 where it may be submitted, else how many seconds to wait.
        One that then is not submitted is to be given back. at: now."""
        self._settle()
        if self._count(tenant, caller, 1, at) <= per_day:
            return 0
        self.give_back_job(tenant, caller, at)
        tomorrow = (at + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        return int((tomorrow - at).total_seconds()) + 1

    def give_back_job(self, tenant: str, caller: str, at: datetime) -> None:
        """Uncount a job; where Redis is away, before anything is counted again, as long as this
        lives. Raises nothing for that. at: when it was counted, which may have been yesterday."""
        self._owed.append((tenant, caller, at))
        with suppress(BrokerUnreachable):
            self._settle()

    def remember(self, tenant: str, key: str, asked: Asked) -> Asked:
        """What a key stands for: what it was used for before, else this."""
        name = _key("asked", tenant, hashlib.sha256(key.encode()).hexdigest())
        said = " ".join(asked)
        with self._reached():
            while not self._redis.set(name, said, nx=True, ex=REMEMBERED):
                found = str(self._redis.get(name) or "").split()
                if len(found) == 2:
                    return Asked(found[0], check_job_id(found[1]))
                self._redis.delete(name)  # none of ours, or it just ran out
        return asked

    def correct(self, tenant: str, key: str, asked: Asked) -> None:
        """What a key stands for is this, whatever it was."""
        name = _key("asked", tenant, hashlib.sha256(key.encode()).hexdigest())
        with self._reached():
            self._redis.set(name, " ".join(asked), ex=REMEMBERED)

    def _settle(self) -> None:
        while self._owed:
            try:
                owed = self._owed.popleft()
            except IndexError:  # another thread had the last
                return
            try:
                tenant, caller, at = owed
                self._count(tenant, caller, -1, at)
            except BrokerUnreachable:
                self._owed.append(owed)
                raise

    def _count(self, tenant: str, caller: str, by: int, at: datetime) -> int:
        day = at.strftime("%Y%m%d")
        with self._reached():
            name = _key("jobs", tenant, f"{caller}-{day}")
            return int(self._redis.eval(_COUNT, 1, name, by, 2 * 86_400))


def _key(what: str, tenant: str, name: str) -> str:
    return f"medgemma:{what}:{check_tenant(tenant)}:{name}"
