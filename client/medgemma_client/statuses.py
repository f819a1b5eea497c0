"""Where many jobs stand, for many who ask: what ``Job.status`` says, at a fraction of its cost.

For a gateway that is polled. Redis is asked each time, the store as seldom as can be: once for all
who ask at the same moment, and not again while what it said must still hold.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock
from typing import TypeAlias

from medgemma_client.job import REDIS_PAUSE, Job
from medgemma_tasks.errors import BrokerUnreachable
from medgemma_tasks.layout import check_job_id
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import Glance, LiveState
from medgemma_tasks.models import State, Status
from medgemma_tasks.store import Store

Key: TypeAlias = tuple[str, str]
"""A tenant and a job's id."""

SURELY = 1.0
"""Seconds for which what the store said holds, as long as Redis knows of no new start of a job that
had ended."""

OPEN = 5.0
"""The same for "no mark yet", while it is heard when jobs end."""

SUCCEEDED = 30.0
"""The same for a success, which never becomes anything else but by a purge."""

EXISTS = 60.0
"""The same for that a job was ever submitted."""

MOST = 20_000
"""Jobs of which it is kept."""

NOTHING = Glance(None, False, None)


@dataclass(frozen=True)
class _Seen:
    """What the store said of a job."""

    ended: Status | None
    at: float
    """When it was asked, as ``time.monotonic`` counts."""
    exists: float
    """When it was last made sure that there is a request."""

    def holds(self, glance: Glance | None, hearing: bool) -> bool:
        """Whether it need not be asked again. ``glance``: None where Redis is away."""
        age = time.monotonic() - self.at
        if self.is_earlier(glance):
            return False
        if age < SURELY:
            return True
        if glance is None or not hearing:
            return False
        if self.ended is None:
            return age < OPEN
        return self.ended.state is State.SUCCEEDED and age < SUCCEEDED

    def is_earlier(self, glance: Glance | None) -> bool:
        """Whether it was put back since it ended so, or purged and submitted anew."""
        return self.ended is not None and glance is not None and glance.begun


class Statuses:
    """Made by ``Client.statuses``. Threads may share it."""

    def __init__(self, store: Store, live: LiveState) -> None:
        self._store, self._live = store, live
        self._seen: OrderedDict[Key, _Seen] = OrderedDict()
        self._asking: dict[Key, Future[_Seen]] = {}
        self._lock = Lock()
        self._redis_away_until = 0.0
        self._hearing = False

    def look(self, tenant: str, job_id: str) -> Status:
        """As ``Job.status``. It may be SURELY seconds old, that a job goes on OPEN seconds where it
        was not heard that it ended, a success SUCCEEDED seconds where it was purged, and that
        there is one EXISTS where it was deleted before it ended. Whoever put a job back, through
        whatever process, is told no earlier end from then on."""
        key = tenant, check_job_id(job_id)
        began, glance = time.monotonic(), self._glance(key)
        with self._lock:
            seen = self._seen.get(key)
        if seen is None or not seen.holds(glance, self._hearing):
            seen = self._ask(key, seen)
            if seen.at < began and seen.is_earlier(glance):  # another had asked, before that
                seen = self._ask(key, seen)
        if seen.ended is not None:
            return seen.ended
        return self._open(job_id, glance or NOTHING)

    def changed(self, tenant: str, job_id: str) -> None:
        """Forget what the store said of a job: it ended, or was put back."""
        with self._lock:
            self._seen.pop((tenant, job_id), None)
            self._asking.pop((tenant, job_id), None)  # what is being asked may be older

    def hear(self, hearing: bool) -> None:
        """Whether ``changed`` is called whenever a job ends."""
        with self._lock:
            self._hearing = hearing
            self._seen.clear()
            self._asking.clear()

    def _glance(self, key: Key) -> Glance | None:
        if time.monotonic() < self._redis_away_until:
            return None
        try:
            return self._live.of_tenant(key[0]).glance(key[1])
        except BrokerUnreachable:
            self._redis_away_until = time.monotonic() + REDIS_PAUSE
            return None

    def _open(self, job_id: str, glance: Glance) -> Status:
        if glance.live is None:
            return Status(job_id=job_id, state=State.SUBMITTED, ahead=glance.ahead)
        return Status(
            job_id=job_id,
            state=State.RUNNING,
            stage=glance.live.stage,
            progress=glance.live.progress,
            attempt=glance.live.attempt,
        )

    def _ask(self, key: Key, before: _Seen | None) -> _Seen:
        """Ask the store, or wait for the answer of who just does."""
        with self._lock:
            answer = self._asking.get(key)
            mine = answer is None
            if answer is None:
                answer = self._asking[key] = Future()
        if not mine:
            return answer.result()
        try:
            seen = self._read(key, before)
        except BaseException as error:
            with self._lock:
                if self._asking.get(key) is answer:
                    del self._asking[key]
            answer.set_exception(error)
            raise
        with self._lock:
            if self._asking.get(key) is answer:  # nothing changed meanwhile
                del self._asking[key]
                self._seen[key] = seen
                self._seen.move_to_end(key)
                while len(self._seen) > MOST:
                    self._seen.popitem(last=False)
        answer.set_result(seen)
        return seen

    def _read(self, key: Key, before: _Seen | None) -> _Seen:
        live = self._live.of_tenant(key[0])
        job = Job(key[1], Ledger(self._store, live), live)
        at = time.monotonic()
        # One that had ended may have been purged, with its request.
        exists = 0.0 if before is None or before.ended is not None else before.exists
        known = at - exists < EXISTS
        ended = job.ended(known=known)
        return _Seen(ended, at, exists if known else at)
