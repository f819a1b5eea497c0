"""Reporting how far a job is, and hearing with the same call whether it was cancelled.

A step may be long. So the parent looks too (``medgemma_worker.parent.watch``), and tells the child
by a signal (``medgemma_worker.device``); a child that does not even hear that is killed.
"""

from __future__ import annotations

import signal
import time

from medgemma_tasks.errors import BrokerUnreachable, JobCancelled
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import Live, Stage
from medgemma_worker.engine import Explained
from medgemma_worker.wrappers.run import Run, Step

STOP = signal.SIGUSR2
"""What the parent sends when the job named on the board is to end. Celery's is SIGUSR1."""

REPORT_PAUSE = 0.1
"""Least seconds between two reports within one stage."""

BROKEN_PAUSE = 5.0
"""Seconds without a report after one that did not reach Redis: each may block until its timeout."""


def cancellable(run: Run, step: Step) -> Explained:
    """A wrapper: JobCancelled where somebody asked for that, before the start or at a step."""
    live = run.around.live
    if live.cancelled(run.job_id):
        raise JobCancelled(f"Job {run.job_id} was cancelled before it ran.")
    run.hearers.append(Progress(live, run))
    return step(run)


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
