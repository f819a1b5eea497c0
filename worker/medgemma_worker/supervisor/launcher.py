"""The supervisor: one worker process group per device, restarted when it dies.

It imports no torch and never touches CUDA. Each child finds its own device alone in
CUDA_VISIBLE_DEVICES, set before its first instruction.
"""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from medgemma_tasks.settings import Settings
from medgemma_worker.exits import SOME_GIVEN_UP
from medgemma_worker.supervisor.child import Child
from medgemma_worker.supervisor.devices import Device
from medgemma_worker.supervisor.metrics import Fleet, serving
from medgemma_worker.supervisor.places import telling
from medgemma_worker.supervisor.reconciler import beside_this_thread
from medgemma_worker.supervisor.rollcall import calling

log = logging.getLogger(__name__)

HEALTHY_SECONDS = 30.0
"""A worker of which nothing was heard, and that dies younger than this, failed to load."""

FIRST_PAUSE = 1.0
"""Seconds before a restart; each pause is twice the one before."""

WORKER_COMMAND = (sys.executable, "-m", "medgemma_worker.app", "{device}", "{counters}")
"""What runs on each device; ``{device}`` becomes its name, ``{counters}`` the descriptor of the
file that it counts in."""


def launch(
    settings: Settings,
    devices: Sequence[Device],
    *,
    command: Sequence[str] = WORKER_COMMAND,
    healthy_after: float = HEALTHY_SECONDS,
    first_pause: float = FIRST_PAUSE,
) -> int:
    """Run a worker on each device until told to stop; call it from the main thread.

    The first SIGTERM or SIGINT lets the workers finish or hand back what they do, and waits for
    them; the second kills them. ``healthy_after`` and ``first_pause`` are in seconds.

    Returns 0 after an orderly stop, SOME_GIVEN_UP (3) where a device had been given up by then, 1
    when every device was given up or the workers were killed. Raises InvalidSettings where the port
    for metrics cannot be had.
    """
    children = [Child(device, settings, command, healthy_after, first_pause) for device in devices]
    loop = _Loop()
    with (
        _signals() as signals,
        serving(settings, Fleet(settings.model, children, lambda: loop.turned)),
        beside_this_thread(settings),
        calling(settings, children),
        telling(settings),
    ):
        try:
            return _supervise(children, signals, loop)
        finally:
            for child in children:
                child.kill()


@dataclass
class _Loop:
    turned: float = field(default_factory=time.monotonic)
    """When the supervisor's loop last turned, on the monotonic clock."""


def _supervise(
    children: Sequence[Child], signals: Callable[[float], int | None], loop: _Loop
) -> int:
    stopping = False
    while True:
        loop.turned = time.monotonic()
        for child in children:
            child.reap(stopping)
            idle = child.process is None and not child.given_up
            if idle and not stopping and time.monotonic() >= child.due:
                child.start()
        running = [child for child in children if child.process is not None]
        if stopping and not running:
            return SOME_GIVEN_UP if any(child.given_up for child in children) else 0
        if all(child.given_up for child in children):
            log.critical("Every device was given up.")
            return 1
        if signals(_pause(children)) not in (signal.SIGTERM, signal.SIGINT):
            continue
        if stopping:
            log.warning("Told to stop a second time: killing the workers.")
            return 1
        stopping = True
        log.info("Told to stop: waiting for %d workers; once more kills them.", len(running))
        for child in running:
            child.ask_to_stop()


def _pause(children: Sequence[Child]) -> float:
    """Seconds until a child is due; a second at most, in case a SIGCHLD was missed."""
    due = [child.due for child in children if child.process is None and not child.given_up]
    return max(0.01, min([1.0, *(moment - time.monotonic() for moment in due)]))


@contextmanager
def _signals() -> Iterator[Callable[[float], int | None]]:
    """Collect signals; yields a function that waits so many seconds for the next one."""
    # SimpleQueue.put is the one that may run in a signal handler: it is reentrant.
    arrived: SimpleQueue[int] = SimpleQueue()

    def wait(seconds: float) -> int | None:
        try:
            return arrived.get(timeout=seconds)
        except Empty:
            return None

    watched = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
    before = {number: signal.getsignal(number) for number in watched}
    for number in watched:
        signal.signal(number, lambda number, _frame: arrived.put(number))
    try:
        yield wait
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
