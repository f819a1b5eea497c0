"""Waking whoever waits in an event loop for a job to end, from the one thread that hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Lock, Thread
from typing import Generic, TypeVar

from medgemma_client.listening import listen
from medgemma_tasks.live import LiveState

K = TypeVar("K")


class LoopBell:
    """As ``medgemma_tasks.bells.Bell``, for one who waits in a loop."""

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


class Waiters(Generic[K]):
    """The bells of those who wait in loops, by what they wait for. Threads may share it."""

    def __init__(self) -> None:
        self._bells: dict[K, set[LoopBell]] = {}
        self._lock = Lock()

    @property
    def waiting(self) -> int:
        """How many wait."""
        with self._lock:
            return sum(map(len, self._bells.values()))

    @contextmanager
    def hearing(self, what: K) -> Iterator[LoopBell]:
        """Wait, with a bell of one's own."""
        bell = LoopBell()
        with self._lock:
            self._bells.setdefault(what, set()).add(bell)
        try:
            yield bell
        finally:
            with self._lock:
                self._bells[what].discard(bell)
                if not self._bells[what]:
                    del self._bells[what]

    def ring(self, *whats: K) -> None:
        """For all who wait for these."""
        with self._lock:
            for what in whats:
                for bell in self._bells.get(what, ()):
                    bell.ring()

    def ring_all(self) -> None:
        """For all who wait."""
        with self._lock:
            whats = list(self._bells)
        self.ring(*whats)


class LoopBells(Waiters[str]):
    """Of those who wait for jobs of a tenant, by id. The thread that hears for them is there as
    long as there are any."""

    def __init__(self, live: LiveState) -> None:
        super().__init__()
        self._live = live
        self._listens = False
        self._thread: Thread | None = None

    @contextmanager
    def hearing(self, what: str) -> Iterator[LoopBell]:
        """Hear that a job ended. The bell also rings once it can be heard: look again then."""
        with super().hearing(what) as bell:
            with self._lock:
                alive = self._thread is not None and self._thread.is_alive()  # not after a fork
                if not (self._listens and alive):
                    self._listens = True
                    listens = Thread(target=self._listen, name="medgemma-bells", daemon=True)
                    self._thread = listens
                    listens.start()
            yield bell

    def _listen(self) -> None:
        listen(self._live, self._wanted, self._heard, self._tell)

    def _heard(self, hears: bool) -> None:
        if hears:
            self.ring_all()  # of what ended before; else whoever waits looks at the store meanwhile

    def _tell(self, jobs: Sequence[tuple[str, str]]) -> None:
        self.ring(*(job_id for _, job_id in jobs))

    def _wanted(self) -> bool:
        with self._lock:
            self._listens = bool(self._bells)
            return self._listens
