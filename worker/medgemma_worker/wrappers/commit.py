"""Writing what a job came to: its artifacts, then its one terminal mark."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from medgemma_tasks.errors import (
    BrokerUnreachable,
    JobCancelled,
    MedGemmaError,
    ServiceError,
    StoreRefused,
    StoreUnreachable,
    WorkerLost,
)
from medgemma_tasks.jitter import jittered
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import Artifact, ExplanationRecord, State
from medgemma_tasks.tracing import span
from medgemma_worker.counters import Counters
from medgemma_worker.engine import Explained
from medgemma_worker.failures import as_error, error_record, trace
from medgemma_worker.stopwatch import Stopwatch
from medgemma_worker.wrappers.run import Attempt, Run, Step

log = logging.getLogger(__name__)

TROUBLE = (StoreUnreachable, StoreRefused, BrokerUnreachable)
"""Trouble of the parts around us, not of the job: it goes back to the queue, unmarked. A store that
refuses is among them: its keys are changed, or its policy, and then it takes the job."""

PATIENCE = 60.0
"""Seconds for which a finished job waits for a store that is away, before it is given back to the
queue and computed again."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0
"""Seconds between two tries; each is twice the one before."""

T = TypeVar("T")


def marked_failed(run: Run, step: Step) -> Explained:
    """A wrapper: whatever goes wrong becomes the job's mark, and is raised on as an error of ours.

    TROUBLE leaves no mark: the job is run again.
    """
    try:
        return step(run)
    except TROUBLE:
        raise
    except Exception as error:  # noqa: BLE001 - every failure ends in the job's record
        ours = as_error(error, run.job_id)
        if not isinstance(error, MedGemmaError):
            said = (run.job_id, ours.code, trace(error))
            log.error("job %s: %s\n%s", *said, extra={"code": ours.code})
        # The start that was one too many was none.
        number = ours.details["attempts"] if isinstance(ours, WorkerLost) else run.number
        _committer(run).failure(ours, number, run.watch)
        raise ours from None


def marked_succeeded(run: Run, step: Step) -> Explained:
    """A wrapper: what was explained is stored, and then marked."""
    explained = step(run)
    assert run.attempt is not None  # noqa: S101 - only what is counted comes here
    _committer(run).success(run.attempt, explained, run.watch)
    return explained


def _committer(run: Run) -> Committer:
    around = run.around
    return Committer(
        around.ledger, around.live, run.job_id, run.request.submitted_at, around.board.counters
    )


class Committer:
    """Commits the outcome of one job, and counts it. First writer wins; a loser leaves nothing
    behind."""

    def __init__(
        self,
        ledger: Ledger,
        live: LiveState,
        job_id: str,
        submitted_at: datetime,
        counters: Counters | None = None,
    ) -> None:
        self._ledger = ledger
        self._live = live
        self._job_id = job_id
        self._submitted_at = submitted_at
        self._counters = counters or Counters()

    def success(self, attempt: Attempt, explained: Explained, watch: Stopwatch) -> bool:
        """Artifacts under their attempt, then the mark that names them with their hashes."""
        files = {name: (file.content, file.content_type) for name, file in explained.files.items()}
        with span("storing", job_id=self._job_id), watch.stage("storing"):
            artifacts = patiently(
                lambda: self._ledger.put_artifacts(self._job_id, attempt.name, files)
            )
        record = ExplanationRecord(
            job_id=self._job_id,
            tenant=self._ledger.tenant,
            state=State.SUCCEEDED,
            attempt=attempt.number,
            answer=explained.answer,
            answer_given=explained.answer_given,
            thinking=explained.thinking,
            targets=explained.targets,
            images=explained.images,
            tokens=explained.tokens,
            consistency=explained.consistency,
            model=explained.model,
            seconds={**watch.seconds, **explained.seconds},
            peak_memory_bytes=explained.peak_memory_bytes,
            artifacts=artifacts,
            submitted_at=self._submitted_at,
            finished_at=datetime.now(UTC),
        )
        return self._commit(record, artifacts, explained.answer_tokens)

    def failure(self, error: MedGemmaError, attempt: int, watch: Stopwatch) -> bool:
        """A mark "failed" or "cancelled". An answer that the error carries is kept."""
        cancelled = isinstance(error, JobCancelled)
        answer = error.details.get("answer")
        record = ExplanationRecord(
            job_id=self._job_id,
            tenant=self._ledger.tenant,
            state=State.CANCELLED if cancelled else State.FAILED,
            attempt=attempt,
            error=error_record(error),
            answer=answer if isinstance(answer, str) else None,
            seconds=dict(watch.seconds),
            submitted_at=self._submitted_at,
            finished_at=datetime.now(UTC),
        )
        return self._commit(record, {})

    def _commit(
        self, record: ExplanationRecord, artifacts: dict[str, Artifact], answer_tokens: int = 0
    ) -> bool:
        # A worker that stood still since it stored may find that the job was marked by another,
        # tidied up, and put on the queue again: the mark's place is free, but the artifacts are
        # gone. It has lost then too, and the job has a message of its own.
        won = patiently(
            lambda: (
                self._ledger.holds(self._job_id, artifacts.values()) and self._ledger.commit(record)
            )
        )
        if won:
            code = "" if record.error is None else record.error.code
            self._counters.job(record.state.value, code, record.seconds, answer_tokens)
            self._tell()
            if record.attempt > 1 or record.state is not State.SUCCEEDED:
                self._tidy(record, artifacts)
        else:
            log.info("job %s: another attempt was first", self._job_id)
            self._discard(artifacts)
        return won

    def _tell(self) -> None:
        try:
            self._live.forget(self._job_id)
            self._live.announce(self._job_id)
        except BrokerUnreachable as error:
            log.warning("job %s: committed, not announced (%s)", self._job_id, error.code)

    def _tidy(self, mark: ExplanationRecord, artifacts: dict[str, Artifact]) -> None:
        """What earlier attempts stored before they died goes, now that no mark can name it.

        Only while the mark is ours: who puts the job back waits for the same lock.
        """
        try:
            with self._ledger.holding(self._job_id):
                if self._ledger.record(self._job_id) == mark:
                    self._ledger.discard_others(self._job_id, artifacts.values())
        except ServiceError as error:
            log.warning("job %s: artifacts of the dead stay (%s)", self._job_id, error.code)

    def _discard(self, artifacts: dict[str, Artifact]) -> None:
        try:
            self._ledger.discard(self._job_id, artifacts.values())
        except ServiceError as error:
            log.warning("job %s: artifacts of a loser stay (%s)", self._job_id, error.code)


def patiently(action: Callable[[], T], patience: float = PATIENCE) -> T:
    """Run a call again and again while the store or Redis is no help; at last its error."""
    deadline, pause = time.monotonic() + patience, FIRST_PAUSE
    while True:
        try:
            return action()
        except TROUBLE as error:
            if time.monotonic() + pause > deadline:
                raise
            log.warning(
                "waiting for a part that is away (%s)", error.code, extra={"code": error.code}
            )
        time.sleep(jittered(pause))
        pause = min(2 * pause, LONGEST_PAUSE)
