"""Finding the marks of many jobs as they come.

A bell in Redis says which job ended. A bell can be missed, and Redis can be away, so each job is
also looked at now and then: seldom, and all of them together within LOOKS_A_SECOND, unless such
looks find something.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event, Lock, Thread

from medgemma_client.backfill.patience import Away
from medgemma_tasks.errors import (
    BrokerUnreachable,
    JobError,
    MedGemmaError,
    RequestError,
    StoreUnreachable,
)
from medgemma_tasks.gone import check_not_purged
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import ExplanationRecord

LOOKS_A_SECOND, WITHOUT_BELLS = 20.0, 100.0
"""That nobody rang for: a small part of what one process can ask a store; and where Redis is away,
so that nobody can ring."""
FIRST_LOOK, LAST_LOOK, BACK_OFF = 1.0, 30.0, 1.5
"""Seconds until a job is looked at, and until it is again."""
TICK = 0.2
"""Seconds for which bells are listened to before the clock is looked at."""
LOOKERS = 4
REDIS_PAUSE = 2.0
"""Seconds for which Redis is not asked again after it could not be reached."""

Ended = Callable[[str, ExplanationRecord | MedGemmaError], None]
"""Told of each job that has a mark, or one that cannot be read, or that was deleted; from some
thread, once."""


@dataclass
class _Watch:
    pause: float = FIRST_LOOK
    looking: bool = False
    rung: bool = False
    """While it was looked at: the mark may have come just after."""


class Collector:
    """Context manager: looks for the marks of the jobs that it is given to watch."""

    def __init__(
        self, ledger: Ledger, live: LiveState, ended: Ended, failed: Callable[[Exception], None]
    ) -> None:
        """``failed``: told what ends the collecting itself: a store that refuses, and one, or a
        Redis, that is away for longer than PATIENCE."""
        self._ledger, self._live = ledger, live
        self._ended, self._failed = ended, failed
        self._watched: dict[str, _Watch] = {}
        self._due: list[tuple[float, str]] = []
        self._looks, self._looked_at = 0.0, time.monotonic()
        self._store_away, self._redis_away = Away(), Away()
        self._lock = Lock()
        self._stop = Event()
        self._pool = ThreadPoolExecutor(LOOKERS, "marks")
        self._thread = Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Collector:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        self._pool.shutdown(cancel_futures=True)

    def watch(self, job_ids: Iterable[str], *, at_once: bool = False) -> list[str]:
        """Those of these jobs that were not watched yet; they are, from here on.

        ``at_once``: they may well have ended already.
        """
        now = time.monotonic()
        with self._lock:
            new = [job for job in dict.fromkeys(job_ids) if job not in self._watched]
            for job_id in new:
                self._watched[job_id] = _Watch()
                heapq.heappush(self._due, (now if at_once else now + FIRST_LOOK, job_id))
        return new

    def _listen(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    with self._live.hearing() as bells:
                        self._redis_away.answers()
                        while not self._stop.is_set():
                            for job_id in bells.rung(TICK):
                                self._ring(job_id)
                            self._look_at_due(LOOKS_A_SECOND)
                except BrokerUnreachable as error:
                    self._redis_away.bear(error)
                    until = time.monotonic() + REDIS_PAUSE
                    while time.monotonic() < until and not self._stop.wait(TICK):
                        self._look_at_due(WITHOUT_BELLS)
        except Exception as error:  # noqa: BLE001 - it is raised where the items are read
            self._failed(error)

    def _ring(self, job_id: str) -> None:
        with self._lock:
            watch = self._watched.get(job_id)
            if watch is None:
                return
            watch.rung = True
            if watch.looking:
                return
            watch.looking = True
        self._pool.submit(self._look, job_id)

    def _look_at_due(self, rate: float) -> None:
        now = time.monotonic()
        self._looks = min(self._looks + rate * (now - self._looked_at), max(self._looks, rate))
        self._looked_at = now
        while self._looks >= 1:
            with self._lock:
                if not self._due or self._due[0][0] > now:
                    return
                _, job_id = heapq.heappop(self._due)
                watch = self._watched.get(job_id)
                if watch is None or watch.looking:
                    continue
                watch.looking = True
                self._looks -= 1
            self._pool.submit(self._look, job_id)

    def _look(self, job_id: str) -> None:
        try:
            found: ExplanationRecord | MedGemmaError | None
            while True:
                with self._lock:
                    watch = self._watched[job_id]
                    rang, watch.rung = watch.rung, False
                try:
                    found = self._ledger.record(job_id)
                    if found is None:
                        check_not_purged(self._ledger, job_id)
                    self._store_away.answers()
                except StoreUnreachable as error:
                    found = None
                    self._store_away.bear(error)
                except BrokerUnreachable:
                    found = None
                except (RequestError, JobError) as error:
                    found = error
                with self._lock:
                    if found is not None:
                        del self._watched[job_id]
                        # Where a look found what nobody rang for, others will.
                        self._looks += 0 if rang else 2
                        break
                    if watch.rung and not self._stop.is_set():
                        continue
                    watch.looking = False
                    heapq.heappush(self._due, (time.monotonic() + watch.pause, job_id))
                    watch.pause = min(watch.pause * BACK_OFF, LAST_LOOK)
                    return
            self._ended(job_id, found)
        except Exception as error:  # noqa: BLE001 - it is raised where the items are read
            self._failed(error)
