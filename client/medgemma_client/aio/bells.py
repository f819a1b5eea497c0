"""Waking whoever waits in an event loop: one thread hears for all who wait on a client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock, Thread
from time import sleep

from medgemma_tasks.errors import BrokerUnreachable
from medgemma_tasks.live import LiveState

LISTENING = 0.5
"""Seconds after which the thread looks whether anybody still waits."""

REDIS_PAUSE = 5.0
"""Seconds for which Redis is not asked again after it could not be reached."""


class LoopBell:
    """As ``medgemma_tasks.live.Bell``, for one who waits in a loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """From any thread."""
        with suppress(RuntimeError):  # the loop is closed, and nobody waits in it
            self._loop.call_soon_threadsafe(self._rung.set)

    async def wait(self, seconds: float) -> bool:
        """Wait for the bell, at most so long; whether it rang."""
        try:
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        except TimeoutError:
            return False
        self._rung.clear()
        return True


class LoopBells:
    """The bells of those who wait. The thread is there as long as there are any."""

    def __init__(self, live: LiveState) -> None:
        self._live = live
        self._bells: dict[str, set[LoopBell]] = {}
        self._listens = False
        self._lock = Lock()

    @property
    def waiting(self) -> int:
        """How many wait."""
        with self._lock:
            return sum(map(len, self._bells.values()))

    @contextmanager
    def hearing(self, job_id: str) -> Iterator[LoopBell]:
        """Hear that a job ended. The bell also rings once it can be heard: look again then."""
        bell = LoopBell()
        with self._lock:
            self._bells.setdefault(job_id, set()).add(bell)
            if not self._listens:
                self._listens = True
                Thread(target=self._listen, name="medgemma-bells", daemon=True).start()
        try:
            yield bell
        finally:
            with self._lock:
                self._bells[job_id].discard(bell)
                if not self._bells[job_id]:
                    del self._bells[job_id]

    def _listen(self) -> None:
        while self._wanted():
            try:
                with self._live.hearing() as bells:
                    self._ring(*self._jobs())  # of what ended before we heard
                    while self._wanted():
                        self._ring(*bells.rung(LISTENING))
            except BrokerUnreachable:
                # Whoever waits looks at the store meanwhile.
                for _ in range(round(REDIS_PAUSE / LISTENING)):
                    sleep(LISTENING)
                    if not self._bells:
                        break

    def _wanted(self) -> bool:
        with self._lock:
            self._listens = bool(self._bells)
            return self._listens

    def _jobs(self) -> list[str]:
        with self._lock:
            return list(self._bells)

    def _ring(self, *job_ids: str) -> None:
        with self._lock:
            for job_id in job_ids:
                for bell in self._bells.get(job_id, ()):
                    bell.ring()
