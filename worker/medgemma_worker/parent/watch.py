"""The parent's eye on its child: what memory it has, and whether its job was cancelled.

A child hears of that by itself at each step of its job. One in the middle of a long step hears it
here, by a signal; one that does not even hear a signal, since it hangs in a driver, is killed, and
a new one loads the model.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from medgemma_tasks.errors import BrokerUnreachable
from medgemma_tasks.in_hand import interval
from medgemma_tasks.live import LiveState
from medgemma_worker.board import Board
from medgemma_worker.parent.repeated import Repeated
from medgemma_worker.places import InHand
from medgemma_worker.wrappers.cancellation import STOP
from medgemma_worker.wrappers.held import by_tenant, keep

log = logging.getLogger(__name__)

LOOK = 0.5
"""Seconds between two looks."""

PATIENCE = 1.5
"""Seconds between the signal and the kill; with the looks, under the 5 s that are promised."""

MARGIN = 5.0
"""Seconds by which a step's limit is longer than Celery's for a message of one job."""

AWAY_PAUSE = 5.0
"""Seconds without a question to Redis after one it did not answer: each holds up the parent."""

_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


class Watch(Repeated):
    """A step of the consumer: while it consumes, its child is looked after."""

    def begin(self, consumer: Any) -> tuple[float, Callable[[], None]]:
        return LOOK, Watcher(consumer.app.board, consumer.app.live).look


class Watcher:
    """Looks at the child now and then; see the module. ``look`` never raises."""

    def __init__(self, board: Board, live: LiveState) -> None:
        self._board = board
        self._live = live
        self._hard = live.settings.hard_time_limit + MARGIN
        self._keep_again = interval(live.settings.visibility_timeout)
        self._pid = 0
        """Of the child that is looked at: its successor is not to be signalled for it."""
        self._told: tuple[InHand, float] | None = None
        self._heard: set[str] = set()
        self._kept = 0.0
        self._not_before = 0.0

    def look(self) -> None:
        self._pid = self._board.pid  # before what it does, which a successor clears first
        jobs = self._board.in_hand if self._board.busy else []
        self._heard &= {held.job_id for held in jobs}
        if not jobs:
            self._told = None
            return
        self._board.note_memory(peak_memory(self._pid))
        now = time.monotonic()
        if self._board.step and now > self._board.step + self._hard:
            # The message's own hard limit is the sum of its jobs'.
            log.warning("a step of the device took %d s: its process is ended", self._hard)
            self._send(signal.SIGKILL)
        elif not self._answered(jobs, now) and now >= self._not_before:
            self._keep_and_ask(jobs, now)

    def _answered(self, jobs: Sequence[InHand], now: float) -> bool:
        """Whether a job that was told to end is still to show that it heard it."""
        if self._told is None:
            return False
        held, since = self._told
        if self._board.heard == held.job_id or held not in jobs:
            self._heard.add(held.job_id)
            self._told = None
            return False
        if now >= since + PATIENCE:
            log.warning("job %s: cancelled, and its process does not hear it", held.job_id)
            self._send(signal.SIGKILL)
        return True

    def _keep_and_ask(self, jobs: Sequence[InHand], now: float) -> None:
        """Say that the jobs are held here, and tell the child of one that was cancelled."""
        try:
            if now >= self._kept + self._keep_again:
                keep(self._board, self._live, jobs)
                self._kept = now
            cancelled = {
                job_id
                for tenant, job_ids in by_tenant(jobs).items()
                for job_id in self._live.of_tenant(tenant).which_cancelled(job_ids)
            }
        except BrokerUnreachable:
            self._not_before = time.monotonic() + AWAY_PAUSE
            return
        for held in jobs:
            if held.job_id in cancelled - self._heard:
                self._told = (held, now)
                self._board.stop(held.job_id)
                self._send(STOP)
                return

    def _send(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._pid, number)


def peak_memory(pid: int) -> int:
    """The most resident memory that a process had, in bytes; 0 where that is not known."""
    with suppress(OSError):
        found = _PEAK.search(Path(f"/proc/{pid}/status").read_text())
        if found is not None:
            return 1024 * int(found[1])
    return 0
