"""One job, from its id to its terminal mark: small wrappers round a pure "explain this request"."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from medgemma_tasks.dropped import NO_REQUEST
from medgemma_tasks.errors import InvalidRequest, MedGemmaError, ModelMismatch
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.logs import about
from medgemma_tasks.models import ExplanationRequest, Stage
from medgemma_tasks.settings import Settings
from medgemma_tasks.tracing import span
from medgemma_worker.board import Board
from medgemma_worker.engine import Engine, Explained
from medgemma_worker.inputs import fetch_images
from medgemma_worker.stopwatch import Stopwatch
from medgemma_worker.wrappers.attempt import counted, uncounted_in_trouble
from medgemma_worker.wrappers.cancellation import cancellable
from medgemma_worker.wrappers.commit import TROUBLE, Committer, marked_failed, marked_succeeded
from medgemma_worker.wrappers.deadline import before_its_deadline
from medgemma_worker.wrappers.held import held_here
from medgemma_worker.wrappers.run import Around, Run, Step, Steps, wrapped
from medgemma_worker.wrappers.timing import timed

log = logging.getLogger(__name__)


def explain(run: Run) -> Explained:
    """Explain a request: its images from the store, through the engine. All else is around it."""
    engine, device = run.around.engine, run.around.device
    run.report(Stage.LOADING, 0.0)
    with span("loading", job_id=run.job_id), run.watch.stage("loading"):
        images = fetch_images(run.around.ledger, run.request.images, run.around.settings.max_pixels)
        prepared = engine.prepare(run.request, images)
    with span("generating", job_id=run.job_id):
        answered = device.answer(run, prepared)
    with span("explaining", job_id=run.job_id):
        found = device.explain(run, answered)
    with span("rendering", job_id=run.job_id):
        explained = engine.finish(found)
    run.report(Stage.STORING, 0.0)
    return explained


def of_this_model(run: Run, step: Step) -> Explained:
    """A wrapper: only what was asked of the model, revision and method that this worker holds."""
    request, served = run.request, run.around.engine.served
    asked = (request.model, request.revision, request.method_version)
    held = (served.name, served.revision, served.method_version)
    if asked != held:
        raise ModelMismatch(
            "The job is for {} at revision {}, method {}; this worker holds {} at revision {}, "
            "method {}. Submit it again.".format(*asked, *held),
            asked=list(asked),
            held=list(held),
        )
    return step(run)


WAY = wrapped(
    explain,
    held_here,
    uncounted_in_trouble,
    marked_failed,
    cancellable,
    before_its_deadline,
    of_this_model,
    counted,
    marked_succeeded,
    timed,
)
"""From the outside in. What another worker runs is left to it. What never started is not counted as
a start; and one that came to no mark because the store was away is uncounted."""


class JobRunner:
    """Runs jobs of one tenant on one engine, each in the thread that calls ``run``.

    ``run`` returns when nothing is left to do for the job, and raises one of TROUBLE, or
    RunsElsewhere, when it must be looked at again later; whatever else goes wrong ends in the job's
    record.
    """

    def __init__(
        self,
        engine: Engine,
        device: Steps,
        ledger: Ledger,
        live: LiveState,
        settings: Settings,
        board: Board,
    ) -> None:
        self._around = Around(engine, device, ledger, live, settings, board)

    def run(self, job_id: str) -> None:
        with about(job=job_id), span("job", job_id=job_id):
            self._run(job_id)

    def _run(self, job_id: str) -> None:
        around = self._around
        if self.finished(job_id):
            log.info("job %s: has its result already", job_id)
            return
        try:
            request = self._request(job_id)
        except InvalidRequest as error:
            log.info("job %s: %s", job_id, error.code, extra={"code": error.code})
            commit = Committer(
                around.ledger, around.live, job_id, datetime.now(UTC), around.board.counters
            )
            commit.failure(error, 0, Stopwatch())
            return
        if request is None:
            log.warning("job %s: has no request, dropped", job_id)
            around.live.count_dropped(NO_REQUEST)
            # It may have been purged: who waits for it is woken, and its message is used up.
            around.live.forget(job_id)
            around.live.announce(job_id)
            return
        try:
            WAY(Run(request, around))
        except TROUBLE:
            raise
        except MedGemmaError as error:
            log.info("job %s: %s", job_id, error.code, extra={"code": error.code})
        else:
            log.info("job %s: succeeded", job_id)

    def finished(self, job_id: str) -> bool:
        """Whether the job has its mark."""
        return self._around.ledger.finished(job_id)

    def died(self, job_id: str) -> bool:
        """Whether the job was started before and came to no end: a process died over it."""
        return self._around.live.attempts(job_id) > 0 and not self.finished(job_id)

    def _request(self, job_id: str) -> ExplanationRequest | None:
        ledger = self._around.ledger
        request = ledger.request(job_id)
        if request is not None and (request.job_id, request.tenant) != (job_id, ledger.tenant):
            raise InvalidRequest("The request in the store is that of another job.")
        return request
