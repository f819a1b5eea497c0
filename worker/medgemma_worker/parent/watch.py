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
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from medgemma_tasks.errors import BrokerUnreachable
from medgemma_tasks.live import LiveState
from medgemma_worker.board import Board, InHand
from medgemma_worker.parent.repeated import Repeated
from medgemma_worker.wrappers.cancellation import STOP
from medgemma_worker.wrappers.held import keep

log = logging.getLogger(__name__)

LOOK = 0.5
"""Seconds between two looks."""

PATIENCE = 1.5
"""Seconds between the signal and the kill; with the looks, under the 5 s that are promised."""

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
        self._told: tuple[InHand, float] | None = None
        self._not_before = 0.0

    def look(self) -> None:
        held = self._board.in_hand
        if held is None or not self._board.busy:
            self._told = None
            return
        self._board.note_memory(peak_memory(self._board.pid))
        now = time.monotonic()
        if self._told is not None and self._told[0] == held:
            if now >= self._told[1] + PATIENCE:
                log.warning("job %s: cancelled, and its process does not hear it", held.job_id)
                self._send(signal.SIGKILL)
        elif now >= self._not_before and self._keep_and_ask(held):
            self._told = (held, now)
            self._board.stop(held.job_id)
            self._send(STOP)

    def _keep_and_ask(self, held: InHand) -> bool:
        """Say that the job is held here; whether it was cancelled."""
        try:
            keep(self._board, self._live, held)
            return self._live.of_tenant(held.tenant).cancelled(held.job_id)
        except BrokerUnreachable:
            self._not_before = time.monotonic() + AWAY_PAUSE
            return False

    def _send(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._board.pid, number)


def peak_memory(pid: int) -> int:
    """The most resident memory that a process had, in bytes; 0 where that is not known."""
    with suppress(OSError):
        found = _PEAK.search(Path(f"/proc/{pid}/status").read_text())
        if found is not None:
            return 1024 * int(found[1])
    return 0
