"""Keeping to the deadline that a caller set: an answer that comes too late is not computed."""

from __future__ import annotations

from datetime import UTC, datetime

from medgemma_tasks.errors import JobExpired
from medgemma_tasks.models import ExplanationRequest, Stage
from medgemma_worker.engine import Explained
from medgemma_worker.wrappers.run import Run, Step


def before_its_deadline(run: Run, step: Step) -> Explained:
    """A wrapper: JobExpired where the deadline has passed, before the start or at a later step.

    By the worker's clock. Whoever asks the same with a later deadline moves it, so the request is
    read again before the job is given up.
    """

    def look(_stage: Stage | None = None, _progress: float = 0.0) -> None:
        if _passed(run.request):
            run.request = run.around.ledger.request(run.job_id) or run.request
            if _passed(run.request):
                raise JobExpired(
                    f"The deadline of job {run.job_id} passed before it had finished. Submit it "
                    "again with a later one, or with none."
                )

    look()
    run.hearers.append(look)
    return step(run)


def _passed(request: ExplanationRequest) -> bool:
    return request.expires_at is not None and datetime.now(UTC) >= request.expires_at
