"""The reconciler at work: of all that run, one at a time sweeps, once each visibility timeout.

A supervisor runs it in a thread, and so does the process beside a worker that was started alone.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from medgemma_tasks.errors import MedGemmaError
from medgemma_tasks.settings import Settings

log = logging.getLogger(__name__)

LOCK = "reconcile"
"""Name of the leader's lock. It is not released, so that nobody sweeps again too soon."""

TURNS = 4
"""Tries to become the leader in a visibility timeout."""


class Turn:
    """One who tries again and again to be the leader. Nothing is imported before its first try."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._token = secrets.token_hex(8)
        self._sweep: Callable[[], bool] | None = None

    def take(self) -> None:
        """Sweep, if nobody did lately. Never raises: a part that is away is back at some turn."""
        try:
            if self._sweep is None:
                self._sweep = self._make()
            self._sweep()
        except MedGemmaError as error:
            log.warning("the reconciler tries again at its next turn (%s)", error.code)
        except Exception as error:  # noqa: BLE001 - one defect must not end all later sweeps
            log.error("the reconciler met a defect (%s)", type(error).__name__)

    def _make(self) -> Callable[[], bool]:
        from medgemma_tasks.live import LiveState
        from medgemma_tasks.reconcile import Reconciler, settling
        from medgemma_tasks.store import Store

        live, token, period = LiveState(self._settings), self._token, self._period
        reconciler = Reconciler(Store(self._settings), live)
        first = period + round(settling(self._settings))

        def sweep() -> bool:
            if not live.lock(LOCK, token, first):
                return False
            swept = reconciler.sweep(alive=lambda: live.extend(LOCK, token, period))
            if swept.put_back:
                log.warning("the reconciler put %d jobs back", len(swept.put_back))
            return True

        return sweep

    @property
    def _period(self) -> int:
        return self._settings.visibility_timeout


def run(settings: Settings, stop: threading.Event) -> None:
    """Take a turn, again and again, until told to stop."""
    turn = Turn(settings)
    while not stop.wait(settings.visibility_timeout / TURNS):
        turn.take()


@contextmanager
def beside_this_thread(settings: Settings) -> Iterator[None]:
    """A thread that reconciles. For a process that does not fork."""
    stop = threading.Event()
    threading.Thread(target=run, args=(settings, stop), name="reconciler", daemon=True).start()
    try:
        yield
    finally:
        stop.set()
