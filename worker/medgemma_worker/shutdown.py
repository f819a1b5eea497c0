"""Ending a worker: its running job first, and with a status that says how it went.

Celery's soft shutdown sleeps through its whole grace, whether or not the job ended, and renews
nothing meanwhile. Here the child says in a byte of shared memory whether it has a shard in hand.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery

from medgemma_worker.lease import LONGEST_INTERVAL, renew
from medgemma_worker.running import say

POLL = 0.1
"""Seconds between two looks at whether the child has ended its shard."""

SETTLE = 0.2
"""Seconds for the child's last word to be under way to the parent."""

_BUSY, _FAILED = 0, 1


class Flags:
    """Two bytes that a parent and the children it forks share."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 2)

    @property
    def busy(self) -> bool:
        """Whether the child has a shard in hand."""
        return self._memory[_BUSY] == 1

    @property
    def failed(self) -> bool:
        """Whether the child could not load its model."""
        return self._memory[_FAILED] == 1

    def fail(self) -> None:
        self._memory[_FAILED] = 1

    def reset(self) -> None:
        """A new child has nothing in hand, whatever the last one died over."""
        self._memory[_BUSY] = 0

    @contextmanager
    def working(self) -> Iterator[None]:
        """Around a shard."""
        self._memory[_BUSY] = 1
        try:
            yield
        finally:
            self._memory[_BUSY] = 0


def install(app: Celery, flags: Flags) -> None:
    """Give the app a worker that ends as this module says."""
    base: Any = app.Worker

    class Worker(base):  # type: ignore[misc]
        def wait_for_soft_shutdown(self) -> None:
            wait_until_idle(flags, self.consumer, app.conf.worker_soft_shutdown_timeout)

        def start(self) -> None:
            super().start()
            if flags.failed or self.exitcode:
                # Set where its event loop crashed, for one; worker_main() would drop it.
                raise SystemExit(1)

    app.Worker = Worker  # type: ignore[misc]


def wait_until_idle(flags: Flags, consumer: Any, grace: float) -> None:
    """Wait for the child's shard, at most ``grace`` seconds, holding its lease meanwhile.

    This runs in a signal handler, so the event loop, which renews otherwise, stands still.
    """
    now = time.monotonic()
    deadline, interval = now + grace, LONGEST_INTERVAL / 10
    renewal = now + interval
    while flags.busy and time.monotonic() < deadline:
        time.sleep(POLL)
        if time.monotonic() >= renewal:
            renew(consumer)
            say(consumer)
            renewal += interval
    time.sleep(SETTLE)
