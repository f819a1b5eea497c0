"""One job, from its id to its terminal mark: small wrappers round a pure "explain this request"."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from medgemma_tasks.errors import (
    BrokerUnreachable,
    InvalidRequest,
    JobCancelled,
    MedGemmaError,
    ModelMismatch,
)
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import ExplanationRequest, ServedModel, Stage, State
from medgemma_tasks.settings import Settings
from medgemma_worker.attempt import Attempt, start_attempt
from medgemma_worker.cancellation import Progress
from medgemma_worker.commit import TROUBLE, Committer
from medgemma_worker.engine import Engine, Explained
from medgemma_worker.failures import as_error, trace
from medgemma_worker.inputs import fetch_images
from medgemma_worker.timing import Stopwatch

log = logging.getLogger(__name__)


class JobRunner:
    """Runs jobs of one tenant on one engine, one at a time.

    ``run`` returns when nothing is left to do for the job, and raises one of TROUBLE when it must
    be tried again later; whatever else goes wrong ends in the job's record.
    """

    def __init__(self, engine: Engine, ledger: Ledger, live: LiveState, settings: Settings) -> None:
        self._engine = engine
        self._ledger = ledger
        self._live = live
        self._settings = settings

    def run(self, job_id: str) -> None:
        if self._ledger.finished(job_id):
            log.info("job %s: has its result already", job_id)
            return
        try:
            request = self._request(job_id)
        except InvalidRequest as error:
            commit = Committer(self._ledger, self._live, job_id, datetime.now(UTC))
            self._fail(commit, job_id, error, 0, Stopwatch())
            return
        if request is None:
            log.warning("job %s: has no request, dropped", job_id)
            return
        commit = Committer(self._ledger, self._live, job_id, request.submitted_at)
        watch, number = Stopwatch(), 0
        try:
            if self._live.cancelled(job_id):
                raise JobCancelled(f"Job {job_id} was cancelled before it ran.")
            _check_model(request, self._engine.served)
            attempt = start_attempt(self._live, job_id, self._settings.max_attempts)
            number = attempt.number
            log.info("job %s: attempt %d", job_id, number)
            commit.success(attempt, self._explain(request, attempt, watch), watch)
            log.info("job %s: succeeded", job_id)
        except TROUBLE:
            self._give_back(job_id, number)
            raise
        except Exception as error:  # noqa: BLE001 - every failure ends in the job's record
            self._fail(commit, job_id, error, number, watch)

    def _request(self, job_id: str) -> ExplanationRequest | None:
        request = self._ledger.request(job_id)
        if request is not None and (request.job_id, request.tenant) != (
            job_id,
            self._ledger.tenant,
        ):
            raise InvalidRequest("The request in the store is that of another job.")
        return request

    def _explain(
        self, request: ExplanationRequest, attempt: Attempt, watch: Stopwatch
    ) -> Explained:
        report = Progress(self._live, request.job_id, attempt.number)
        waited = (datetime.now(UTC) - request.submitted_at).total_seconds()
        watch.seconds["waiting"] = round(max(waited, 0.0), 6)
        report(Stage.LOADING, 0.0)
        with watch.stage("loading"):
            images = fetch_images(self._ledger, request.images, self._settings.max_pixels)
        explained = self._engine.explain(request, images, report)
        report(Stage.STORING, 0.0)
        return explained

    def _fail(
        self,
        commit: Committer,
        job_id: str,
        error: Exception,
        attempt: int,
        watch: Stopwatch,
    ) -> None:
        cancelled = isinstance(error, JobCancelled)
        ours = as_error(error, job_id)
        if isinstance(error, MedGemmaError):
            log.info("job %s: %s", job_id, ours.code)
        else:
            log.error("job %s: %s\n%s", job_id, ours.code, trace(error))
        commit.failure(ours, State.CANCELLED if cancelled else State.FAILED, attempt, watch)

    def _give_back(self, job_id: str, number: int) -> None:
        if number:
            try:
                self._live.give_back_attempt(job_id)
            except BrokerUnreachable:
                log.warning("job %s: its attempt stays counted", job_id)


def _check_model(request: ExplanationRequest, served: ServedModel) -> None:
    asked = (request.model, request.revision, request.method_version)
    held = (served.name, served.revision, served.method_version)
    if asked != held:
        raise ModelMismatch(
            "The job is for {} at revision {}, method {}; this worker holds {} at revision {}, "
            "method {}. Submit it again.".format(*asked, *held),
            asked=list(asked),
            held=list(held),
        )
