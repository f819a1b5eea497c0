"""Reporting how far a job is, and hearing with the same call whether it was cancelled."""

from __future__ import annotations

import time

from medgemma_tasks.errors import BrokerUnreachable, JobCancelled
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import Live, Stage

REPORT_PAUSE = 0.1
"""Least seconds between two reports within one stage."""

BROKEN_PAUSE = 5.0
"""Seconds without a report after one that did not reach Redis: each may block until its timeout."""


class Progress:
    """The ``report`` that an engine calls. Raises JobCancelled once somebody asked for that.

    Redis being away is no reason to stop: the job goes on unseen, and uncancelled.
    """

    def __init__(self, live: LiveState, job_id: str, attempt: int) -> None:
        self._live = live
        self._job_id = job_id
        self._attempt = attempt
        self._stage: Stage | None = None
        self._not_before = 0.0
        self._broken = False

    def __call__(self, stage: Stage, progress: float) -> None:
        now = time.monotonic()
        if now < self._not_before and (stage == self._stage or self._broken):
            return
        self._stage = stage
        state = Live(
            stage=stage, progress=min(max(float(progress), 0.0), 1.0), attempt=self._attempt
        )
        try:
            cancelled = self._live.report(self._job_id, state)
        except BrokerUnreachable:
            self._broken, self._not_before = True, now + BROKEN_PAUSE
            return
        self._broken, self._not_before = False, now + REPORT_PAUSE
        if cancelled:
            raise JobCancelled(f"Job {self._job_id} was cancelled while it ran.")
