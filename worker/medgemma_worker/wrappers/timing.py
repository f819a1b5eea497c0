"""Timing a job from the outside: how long it waited."""

from __future__ import annotations

from datetime import UTC, datetime

from medgemma_worker.engine import Explained
from medgemma_worker.wrappers.run import Run, Step


def timed(run: Run, step: Step) -> Explained:
    """A wrapper: how long the job waited for its start, by the clocks of client and worker."""
    waited = (datetime.now(UTC) - run.request.submitted_at).total_seconds()
    run.watch.seconds["waiting"] = round(max(waited, 0.0), 6)
    return step(run)
