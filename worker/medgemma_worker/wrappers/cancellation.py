"""Reporting how far a job is, and hearing with the same call whether it was cancelled.

A step may be long. So the parent looks too (``medgemma_worker.parent.watch``), and tells the child
by a signal; a child that does not even hear that is killed.
"""

from __future__ import annotations

import signal
import time
from typing import Any

from medgemma_tasks.errors import BrokerUnreachable, JobCancelled, JobTimeLimit
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import Live, Stage
from medgemma_worker.board import Board
from medgemma_worker.engine import Explained
from medgemma_worker.failures import TOO_LONG
from medgemma_worker.wrappers.run import Run, Step

STOP = signal.SIGUSR2
"""What the parent sends when the job named on the board is to end. Celery's is SIGUSR1."""

REPORT_PAUSE = 0.1
"""Least seconds between two reports within one stage."""

BROKEN_PAUSE = 5.0
"""Seconds without a report after one that did not reach Redis: each may block until its timeout."""


_interruptible: str | None = None
"""The job that STOP, or its own time limit, may end just now."""

_since = 0.0
"""When it began, on the monotonic clock."""

MARGIN = 2.0
"""Seconds by which a job's limit is longer than Celery's, which is for the whole message: of a
message with one job Celery's comes first, and of a shard it is the sum."""


def cancellable(run: Run, step: Step) -> Explained:
    """A wrapper: JobCancelled where somebody asked for that, before the start or at a step."""
    live = run.around.live
    if live.cancelled(run.job_id):
        raise JobCancelled(f"Job {run.job_id} was cancelled before it ran.")
    run.hearers.append(Progress(live, run))
    return step(run)


def interruptible(run: Run, step: Step) -> Explained:
    """A wrapper: within it, STOP or the soft limit ends the job in the middle of a step. What is
    stored is not interrupted."""
    global _interruptible, _since
    _interruptible, _since = run.job_id, time.monotonic()
    try:
        return step(run)
    finally:
        _interruptible = None


def hear_stop(board: Board) -> None:
    """Let STOP end the job that the board names, if it still is the one that runs.

    The handler runs in the thread that runs the jobs, so that no other can be hit.
    """

    def stop(*_: Any) -> None:
        global _interruptible
        job_id = _interruptible
        if job_id is not None and job_id == board.stopping:
            _interruptible = None
            raise JobCancelled(f"Job {job_id} was cancelled while it ran.")

    signal.signal(STOP, stop)


def end_if_late(limit: float) -> None:
    """Raise JobTimeLimit in the job that runs for longer than so many seconds.

    Called now and then by a timer's signal, in the thread that runs the jobs.
    """
    global _interruptible
    if _interruptible is not None and time.monotonic() > _since + limit + MARGIN:
        _interruptible = None
        raise JobTimeLimit(TOO_LONG)


class Progress:
    """What hears an engine's reports first. Raises JobCancelled once somebody asked for that.

    Redis being away is no reason to stop: the job goes on unseen, and uncancelled.
    """

    def __init__(self, live: LiveState, run: Run) -> None:
        self._live = live
        self._run = run
        self._stage: Stage | None = None
        self._not_before = 0.0
        self._broken = False

    def __call__(self, stage: Stage, progress: float) -> None:
        now = time.monotonic()
        if now < self._not_before and (stage == self._stage or self._broken):
            return
        self._stage = stage
        within = min(max(float(progress), 0.0), 1.0)
        state = Live(stage=stage, progress=within, attempt=self._run.number)
        try:
            cancelled = self._live.report(self._run.job_id, state)
        except BrokerUnreachable:
            self._broken, self._not_before = True, now + BROKEN_PAUSE
            return
        self._broken, self._not_before = False, now + REPORT_PAUSE
        if cancelled:
            raise JobCancelled(f"Job {self._run.job_id} was cancelled while it ran.")
