"""Requests that lie in the store, onto the queue: one message a shard."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Event
from typing import TypeVar

from medgemma_client.backfill.patience import StoppedError, patiently
from medgemma_tasks.errors import BrokerUnreachable, QueueFull
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import WorkerHealth
from medgemma_tasks.putting_back import Publisher
from medgemma_tasks.queue import check_room

SHARD = 8
"""Jobs of a message where no worker said how many go fastest."""
LARGEST_SHARD = 256
LINGER = 0.5
"""Seconds that a job waits for others to share its message with."""
ASKED_EVERY = 10.0
"""Seconds for which what workers said of shards holds."""
LOOKED_EVERY = 1.0
"""Seconds for which a queue that had room for so many messages has it, but for what is published
here: others may fill it meanwhile."""
FULL_PAUSE = 2.0
"""Seconds between two looks whether the queue has room again."""

T = TypeVar("T")


@dataclass(frozen=True)
class Ready:
    """A row whose request lies in the store."""

    item: str
    job_id: str
    batch: bool


class Shards:
    """Gathers jobs, and publishes them; for one thread, but for ``add`` and ``close``."""

    def __init__(
        self,
        live: LiveState,
        model: str,
        shard: int | None,
        before: Callable[[Sequence[Ready]], Sequence[str]],
        stop: Event,
    ) -> None:
        """``shard``: None asks the workers. ``before``: told of rows right before their message;
        which of their jobs are still to be published. It is called without any where none came."""
        self._live, self._model, self._wanted = live, model, shard
        self._before, self._stop = before, stop
        self._publisher = Publisher(live.settings)
        self._ready: SimpleQueue[Sequence[Ready] | None] = SimpleQueue()
        self._room: dict[bool, tuple[int, float]] = {}
        """For so many messages, when it was looked at last; by whether it is the batch queue."""
        self._size, self._asked_at = SHARD, float("-inf")

    def add(self, rows: Sequence[Ready]) -> None:
        self._ready.put(rows)

    def close(self) -> None:
        """Nothing is added any more: publish what is there, and end."""
        self._ready.put(None)

    def run(self) -> None:
        """Publish until it is closed. Raises StoppedError, and what ends the run."""
        gathered: list[Ready] = []
        since = 0.0
        while True:
            if self._stop.is_set():
                raise StoppedError
            left = since + LINGER - time.monotonic() if gathered else LINGER
            if left <= 0:
                self._flush(gathered, batch=True)
                gathered = []
                continue
            rows: Sequence[Ready] | None = ()
            with suppress(Empty):
                rows = self._ready.get(timeout=left)
            if rows is None:
                self._flush(gathered, batch=True)
                return
            if not rows:
                self._before(())
            for ready in rows:
                if not ready.batch:
                    self._flush([ready], batch=False)
                    continue
                since = since if gathered else time.monotonic()
                gathered.append(ready)
                if len(gathered) >= self._shard():
                    self._flush(gathered, batch=True)
                    gathered = []

    def publish(self, job_ids: Sequence[str], *, batch: bool) -> None:
        """One message, once the queue has room for it."""
        self._wait_for_room(batch)
        self._patiently(
            lambda: self._publisher.shard(self._model, self._live.tenant, job_ids, batch)
        )
        self._patiently(lambda: self._live.mark_queued([*job_ids]))

    def _wait_for_room(self, batch: bool) -> None:
        room, looked_at = self._room.get(batch, (0, 0.0))
        while room < 1 or time.monotonic() > looked_at + LOOKED_EVERY:
            try:
                room = self._patiently(lambda: check_room(self._live, self._model, batch=batch))
                looked_at = time.monotonic()
            except QueueFull:
                room = 0
                self._stop.wait(FULL_PAUSE)
        self._room[batch] = room - 1, looked_at

    def _flush(self, rows: Sequence[Ready], *, batch: bool) -> None:
        if rows and (jobs := self._before(rows)):
            self.publish(jobs, batch=batch)

    def _shard(self) -> int:
        if self._wanted is not None:
            return self._wanted
        if time.monotonic() > self._asked_at + ASKED_EVERY:
            self._asked_at = time.monotonic()
            self._size = best_shard(self._live, self._model)
        return self._size

    def _patiently(self, action: Callable[[], T]) -> T:
        return patiently(action, self._stop)


def best_shard(live: LiveState, model: str) -> int:
    """What all serving workers of a model can take at their best; SHARD where none said, or where
    they cannot be asked."""
    there = fleet(live) or []
    said = [w.shard for w in there if w.model == model and w.state.serves and w.shard is not None]
    return min(*said, LARGEST_SHARD) if said else SHARD


def fleet(live: LiveState) -> list[WorkerHealth] | None:
    """What all workers say of themselves; None where Redis does not tell: a client's user may not
    ask (docs/security.md)."""
    from medgemma_tasks.workers import workers

    try:
        with live.connected() as redis:
            return workers(redis)
    except BrokerUnreachable:
        return None
