"""Live state in Redis: what can be lost. Every key has a time to live and begins with medgemma:.

The store is the truth; here is how far a running job is, how often it was started, whether it was
cancelled, and a call that wakes those who wait for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from pydantic import ValidationError

from medgemma_tasks.bells import Bell, Bells
from medgemma_tasks.dropped import count, counted
from medgemma_tasks.layout import check_job_id, check_tenant
from medgemma_tasks.locks import UNLOCK, Locks
from medgemma_tasks.models import Death, Live
from medgemma_tasks.settings import Settings

if TYPE_CHECKING:
    from redis import Redis

    from medgemma_tasks.remembered import Remembered

QUEUED_TTL = 900
"""Seconds for which a job counts as queued after it was published. Submitting it again within them
publishes nothing, unless Redis lost this key, and then it lost the message too."""

_HOLD = """\
local held = redis.call('get', KEYS[1])
if held and held ~= ARGV[1] then return 0 end
redis.call('set', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1"""


class Glance(NamedTuple):
    """What Redis knows of a job."""

    live: Live | None
    queued: bool
    """Whether its message was published lately."""
    ahead: int | None
    """``backlog.place``."""

    @property
    def begun(self) -> bool:
        """Whether it waits to be started, or runs."""
        return self.live is not None or self.queued


class LiveState(Locks):
    """The live state of one tenant's jobs. Every call may raise BrokerUnreachable."""

    def __init__(
        self, settings: Settings, tenant: str | None = None, connection: Redis | None = None
    ) -> None:
        super().__init__(settings, connection)
        self.tenant = check_tenant(tenant or settings.tenant)

    def of_tenant(self, tenant: str) -> LiveState:
        """The same connection, for another tenant's jobs."""
        return LiveState(self.settings, tenant, self._redis)

    # --- how far a job is ----------------------------------------------------------------------

    def report(self, job_id: str, live: Live) -> bool:
        """Write how far a job is; True where it was cancelled meanwhile."""
        with self._reached():
            pipe = self._redis.pipeline(transaction=False)
            # Each report renews it. A job is never silent for longer than its hard limit, and one
            # that died unseen must not block its resubmission for longer than a lost message does.
            ttl = max(QUEUED_TTL, self.settings.hard_time_limit)
            pipe.set(self._key("live", job_id), live.model_dump_json(), ex=ttl)
            pipe.exists(self._key("cancel", job_id))
            return bool(pipe.execute()[1])

    def read(self, job_id: str) -> Live | None:
        """How far a job is, or None where Redis knows nothing of it."""
        with self._reached():
            return _live(self._redis.get(self._key("live", job_id)))

    def glance(self, job_id: str) -> Glance:
        """All that Redis knows of where a job stands, by one question."""
        names = ("live", "queued", "place")
        with self._reached():
            pipe = self._redis.pipeline(transaction=False)
            for name in names:
                pipe.get(self._key(name, job_id))
            live, queued, ahead = pipe.execute()
        told = str(ahead or "")
        return Glance(_live(live), bool(queued), int(told) if told.isdecimal() else None)

    # --- how often it was started --------------------------------------------------------------

    def start_attempt(self, job_id: str, token: str) -> int:
        """Count one more start of a job; its number, from 1.

        token: the start's own. A command whose answer was lost is sent again, and counts once.
        """
        key = self._key("starts", job_id)
        with self._reached():
            pipe = self._redis.pipeline(transaction=True)
            pipe.hset(key, token, f"{time.time():.3f}")
            pipe.expire(key, self.settings.live_ttl)
            pipe.hlen(key)
            return int(pipe.execute()[-1])

    def give_back_attempt(self, job_id: str, token: str) -> None:
        """Uncount a start that ended through no fault of the job (the store was away)."""
        with self._reached():
            self._redis.hdel(self._key("starts", job_id), token)

    def attempts(self, job_id: str) -> int:
        """How often a job was started and did not end, as far as Redis knows."""
        with self._reached():
            return int(self._redis.hlen(self._key("starts", job_id)))

    def note_death(self, job_id: str, death: Death) -> None:
        """Keep what was known when a process died over a job."""
        key = self._key("deaths", job_id)
        with self._reached():
            pipe = self._redis.pipeline(transaction=True)
            pipe.hset(key, str(death.attempt), death.model_dump_json())
            pipe.expire(key, self.settings.live_ttl)
            pipe.execute()

    def deaths(self, job_id: str) -> list[Death]:
        """What is known of the deaths over a job, in order; nothing of some."""
        with self._reached():
            found = self._redis.hgetall(self._key("deaths", job_id))
        deaths = [_death(str(text)) for text in found.values()]
        return sorted((death for death in deaths if death), key=lambda death: death.attempt)

    def hold(self, job_id: str, owner: str, seconds: float) -> bool:
        """Be the worker that runs a job for some seconds from now; False where another is."""
        with self._reached():
            key = self._key("held", job_id)
            return bool(self._redis.eval(_HOLD, 1, key, owner, round(1000 * seconds)))

    def hold_all(self, job_ids: Iterable[str], owner: str, seconds: float) -> None:
        """The same for several that are held already, with one question to Redis."""
        with self._reached():
            pipe = self._redis.pipeline(transaction=False)
            for job_id in job_ids:
                pipe.eval(_HOLD, 1, self._key("held", job_id), owner, str(round(1000 * seconds)))
            pipe.execute()

    def let_go(self, job_id: str, owner: str) -> None:
        """Run a job no longer."""
        with self._reached():
            self._redis.eval(UNLOCK, 1, self._key("held", job_id), owner)

    # --- cancelling ----------------------------------------------------------------------------

    def cancel(self, job_id: str) -> None:
        """Ask whoever runs the job to stop."""
        with self._reached():
            self._redis.set(self._key("cancel", job_id), "1", ex=self.settings.live_ttl)

    def cancelled(self, job_id: str) -> bool:
        """Whether somebody asked for the job to stop."""
        with self._reached():
            return bool(self._redis.exists(self._key("cancel", job_id)))

    def which_cancelled(self, job_ids: Sequence[str]) -> list[str]:
        """Those of the jobs that somebody asked to stop."""
        keys = [self._key("cancel", job_id) for job_id in job_ids]
        with self._reached():
            # Asked twice a second for each job in hand: nearly always one command is enough.
            if not keys or not self._redis.exists(*keys):
                return []
            pipe = self._redis.pipeline(transaction=False)
            for key in keys:
                pipe.exists(key)
            found = pipe.execute()
        return [job_id for job_id, one in zip(job_ids, found, strict=True) if one]

    # --- the queue's memory --------------------------------------------------------------------

    def mark_queued(self, job_ids: list[str]) -> None:
        """Remember that messages for these jobs were published."""
        with self._reached():
            pipe = self._redis.pipeline(transaction=False)
            for job_id in job_ids:
                pipe.set(self._key("queued", job_id), "1", ex=QUEUED_TTL)
            pipe.execute()

    def under_way(self, job_id: str) -> bool:
        """Whether a message of the job is queued, or the job runs, as far as Redis knows."""
        with self._reached():
            return bool(self._redis.exists(self._key("queued", job_id), self._key("live", job_id)))

    def known(self) -> set[str]:
        """The ids of all jobs that are queued or in a worker's hands, of every tenant."""
        from medgemma_tasks.in_hand import look

        with self._reached():
            return look(self._redis)

    def claim(self, job_id: str, seconds: int) -> bool:
        """Be the one who puts a job back onto the queue; False where another lately was."""
        with self._reached():
            return bool(self._redis.set(self._key("put-back", job_id), "1", nx=True, ex=seconds))

    def unclaim(self, job_id: str) -> None:
        """Let another put a job back: its message could not be published."""
        with self._reached():
            self._redis.delete(self._key("put-back", job_id))

    def forget(self, job_id: str) -> None:
        """Drop all that is known of a job: it ended, or it starts afresh."""
        names = ("live", "starts", "deaths", "cancel", "queued", "place")
        with self._reached():
            self._redis.delete(*(self._key(name, job_id) for name in names))

    def remembered(self) -> Iterator[Remembered]:
        """All keys that are about a job, of every tenant, in no order; some come twice."""
        from medgemma_tasks.remembered import remembered

        with self._reached():
            yield from remembered(self._redis)

    def drop(self, keys: Iterable[str]) -> int:
        """Delete some of them; how many there were."""
        with self._reached():
            return int(self._redis.delete(*keys))

    # --- what was dropped ----------------------------------------------------------------------

    def count_dropped(self, place: str) -> None:
        """One more was dropped: see ``medgemma_tasks.dropped``. Never raises."""
        count(self._redis, place)

    def dropped(self) -> dict[str, int]:
        """How much was dropped lately, by queue (or ``NO_REQUEST``), whoever's it was."""
        with self._reached():
            return counted(self._redis)

    # --- waking those who wait -----------------------------------------------------------------

    def announce(self, job_id: str) -> None:
        """Wake all who wait for a job: it has a terminal mark."""
        with self._reached():
            self._redis.publish(self._key("done", job_id), "1")

    @contextmanager
    def listening(self, job_id: str) -> Iterator[Bell]:
        """Hear ``announce`` from here on; look at the store after entering, not before."""
        with self._reached():
            pubsub = self._redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
            pubsub.subscribe(self._key("done", job_id))
        try:
            yield Bell(self, pubsub)
        finally:
            pubsub.close()

    @contextmanager
    def hearing(self, *, every_tenant: bool = False) -> Iterator[Bells]:
        """Hear ``announce`` for all jobs of the tenant, or of every one."""
        whose = "*" if every_tenant else self.tenant
        with self._reached():
            pubsub = self._redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
            pubsub.psubscribe(f"medgemma:done:{whose}:*")
        try:
            yield Bells(self, pubsub)
        finally:
            pubsub.close()

    def _key(self, what: str, job_id: str) -> str:
        return f"medgemma:{what}:{self.tenant}:{check_job_id(job_id)}"


def _live(text: object) -> Live | None:
    try:
        return None if text is None else Live.model_validate_json(str(text))
    except ValidationError:
        return None  # of another version; the store is the truth


def _death(text: str) -> Death | None:
    try:
        return Death.model_validate_json(text)
    except ValidationError:
        return None  # of another version
