"""What a supervisor knows of its workers by their own word, and says for those that are given up.

In a thread beside it: Redis may take seconds to answer, and a signal must not wait for that.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Protocol

from medgemma_tasks.errors import BrokerUnreachable
from medgemma_tasks.models import WorkerHealth, WorkerState
from medgemma_tasks.settings import Settings
from medgemma_worker.supervisor.devices import Device

log = logging.getLogger(__name__)

PAUSE = 1.0
"""Seconds between two calls."""

AWAY_PAUSE = 5.0
"""Seconds without one after Redis did not answer."""


class Supervised(Protocol):
    """A device and its worker, as a supervisor has them."""

    @property
    def node(self) -> str:
        """The name of its worker."""

    @property
    def last_words(self) -> WorkerHealth | None:
        """What is to be said for it where it was given up."""

    def hear(self, health: WorkerHealth | None) -> None:
        """Take what its worker said last."""


@contextmanager
def calling(settings: Settings, children: Sequence[Supervised]) -> Iterator[None]:
    """A thread that calls the roll; a last time as the context ends."""
    stop = threading.Event()
    thread = threading.Thread(
        target=_call, args=(settings, children, stop), name="roll call", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def epitaph(settings: Settings, device: Device, pid: int) -> WorkerHealth:
    """What is said, as long as its supervisor lives, for a device that was given up."""
    now = datetime.now(UTC)
    return WorkerHealth(
        name=node_name(device),
        host=socket.gethostname(),
        model=settings.model,
        device=device.visible or "cpu",
        pid=pid,
        state=WorkerState.SETUP_FAILED,
        since=now,
        started_at=now,
    )


def node_name(device: Device) -> str:
    """The name of a device's worker, as ``medgemma_worker.app`` gives it."""
    return f"{device.name}@{socket.gethostname()}"


def _call(settings: Settings, children: Sequence[Supervised], stop: threading.Event) -> None:
    # Imported here, as it takes long: the workers start meanwhile.
    from medgemma_tasks.live import LiveState
    from medgemma_tasks.workers import say, worker

    live, last = LiveState(settings), False
    while not last:
        last = stop.is_set()
        pause = PAUSE
        try:
            with live.connected() as redis:
                for child in children:
                    if child.last_words is not None:
                        say(redis, child.last_words, settings.visibility_timeout)
                    else:
                        child.hear(worker(redis, settings.model, child.node))
        except BrokerUnreachable as error:
            log.warning("how the workers are is not known (%s)", error.code)
            for child in children:
                child.hear(None)
            pause = AWAY_PAUSE
        stop.wait(pause)
