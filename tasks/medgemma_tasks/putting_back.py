"""Putting a job on the queue again: one that was lost, and one that ended badly and is to run anew.

The request is kept in the store, so neither needs the images, or whoever submitted it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from medgemma_tasks.errors import JobNotFailed, JobNotFound
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import ExplanationRecord, ExplanationRequest, State
from medgemma_tasks.settings import Settings

if TYPE_CHECKING:
    from celery import Celery

Publish = Callable[[str, str, str, bool], None]
"""Puts one message on a queue of a model's: model, tenant, job id, whether on the batch queue."""


class Publisher:
    """Puts messages on the broker's queues. Nothing is imported before the first."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __call__(self, model: str, tenant: str, job_id: str, batch: bool) -> None:
        self.shard(model, tenant, [job_id], batch)

    def shard(self, model: str, tenant: str, job_ids: Sequence[str], batch: bool) -> None:
        """ONE message for several jobs."""
        from medgemma_tasks.queue import publish

        publish(self._app, self._settings, model, job_ids, tenant=tenant, batch=batch)

    def close(self) -> None:
        """Give back the connections that nobody is using; a later message opens new ones.

        kombu shares them among all who publish to a broker from one process, so that each is taken
        for a moment, and none away from another.
        """
        app = self.__dict__.get("_app")
        if app is None:
            return
        idle = []
        with suppress(app.pool.LimitExceeded):
            while True:
                idle.append(app.pool.acquire(block=False))
        for connection in idle:
            connection.collect()
            connection.release()

    @cached_property
    def _app(self) -> Celery:
        from medgemma_tasks.queue import make_app

        return make_app(self._settings)


def publish_job(publish: Publish, live: LiveState, request: ExplanationRequest) -> None:
    """Put a job on its queue, and remember that. Raises BrokerUnreachable."""
    publish(request.model, request.tenant, request.job_id, request.batch)
    live.of_tenant(request.tenant).mark_queued([request.job_id])


def put_back(
    publish: Publish, ledger: Ledger, request: ExplanationRequest, mark: ExplanationRecord
) -> bool:
    """Archive a job's mark, drop what Redis keeps of it, and publish it again.

    False, and nothing is done, where the mark is no longer the one that was seen (another was
    quicker), or says that it succeeded. One that breaks off after archiving is the reconciler's.
    """
    live = ledger.first_writer.live
    with ledger.holding(request.job_id):
        if ledger.record(request.job_id) != mark:
            return False
        live.forget(request.job_id)
        if not ledger.archive(mark):
            return False
        publish_job(publish, live, request)
        return True


def requeue(publish: Publish, ledger: Ledger, job_id: str) -> bool:
    """Run a job again that failed or was cancelled; False where another just put it back.

    A deadline that has passed is dropped: whoever asks for this wants an answer all the same.
    Raises JobNotFound, JobNotFailed, and InvalidRequest where this version cannot read it.
    """
    request = ledger.request(job_id)
    if request is None:
        raise JobNotFound(
            f"There is no job {job_id} for tenant {ledger.tenant} in the store.", job_id=job_id
        )
    mark = failed_mark(ledger, job_id)
    if request.expires_at is not None and request.expires_at <= datetime.now(UTC):
        ledger.move_deadline(job_id, None)
    return put_back(publish, ledger, request, mark)


def failed_mark(ledger: Ledger, job_id: str) -> ExplanationRecord:
    """The mark of a job that failed or was cancelled. Raises JobNotFailed."""
    mark = ledger.record(job_id)
    if mark is None:
        raise JobNotFailed(
            f"Job {job_id} has not ended: it is queued or runs. If its message was lost, reconcile "
            "puts it back.",
            job_id=job_id,
        )
    if mark.state is State.SUCCEEDED:
        raise JobNotFailed(
            f"Job {job_id} succeeded; fetch its result, or submit it with force to run it again.",
            job_id=job_id,
        )
    return mark
