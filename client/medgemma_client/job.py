"""A job: where it stands, waiting for it, cancelling it, and its result."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime

from medgemma_client.result import Result
from medgemma_client.waiting import FIRST_POLL, Waiting
from medgemma_tasks.backlog import place
from medgemma_tasks.bells import Bell
from medgemma_tasks.errors import (
    BrokerUnreachable,
    JobCancelled,
    JobError,
    JobNotFinished,
    JobNotFound,
    MedGemmaError,
    error_from_code,
)
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import (
    ErrorRecord,
    ExplanationRecord,
    ExplanationRequest,
    State,
    Status,
)

log = logging.getLogger(__name__)

REDIS_PAUSE = 5.0
"""Seconds for which Redis is not asked again after it could not be reached."""

Watcher = Callable[[Status], None]


class Job:
    """One question and whatever became of it. Made by ``Client.submit`` and ``Client.job``."""

    def __init__(
        self, job_id: str, ledger: Ledger, live: LiveState, notes: tuple[str, ...] = ()
    ) -> None:
        self.id = job_id
        self.notes = notes
        """Of the one who submitted it about a study: what of that was chosen, and what left out."""
        self._ledger = ledger
        self._live = live
        self._redis_away_until = 0.0

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    def _repr_html_(self) -> str:
        """A line for notebooks: where the job stands."""
        from medgemma_client.card import status_card

        try:
            return status_card(self.id, self.status())
        except MedGemmaError as error:
            return status_card(self.id, None, error.code)

    def status(self) -> Status:
        """Where the job stands. The store decides; Redis only adds the stage of a running job.

        With Redis away, a running job shows as submitted. Raises JobNotFound.
        """
        return self.ended() or self._under_way()

    def ended(self, *, known: bool = False) -> Status | None:
        """How the job ended; None of one under way. Asks the store alone.

        known: whether it is certain that it was submitted. Else raises JobNotFound.
        """
        record = self._ledger.record(self.id)
        if record is not None:
            return self._ended(record)
        if not known and not self._ledger.has_request(self.id):
            raise JobNotFound(f"There is no job {self.id}.", job_id=self.id)
        return None

    def request(self) -> ExplanationRequest:
        """The question, as it was submitted. Raises JobNotFound where there is none any more."""
        request = self._ledger.request(self.id)
        if request is None:
            raise JobNotFound(f"There is no job {self.id}.", job_id=self.id)
        return request

    def result(self) -> Result:
        """The result. Raises JobNotFinished while there is none, and what ``wait`` raises for a
        job that failed or was cancelled."""
        record = self._ledger.record(self.id)
        if record is None:
            status = self.status()
            raise JobNotFinished(
                f"Job {self.id} is {status.state.value}; use wait().", job_id=self.id
            )
        return self._result(record)

    def wait(
        self,
        timeout: float | None = None,
        progress: bool | Watcher | None = None,
        poll: float = FIRST_POLL,
    ) -> Result:
        """Wait for the job to end; its result.

        timeout: seconds, or None to wait for ever. progress: a function that is given each
        Status, True for a progress bar, None for one where somebody watches (a terminal or a
        notebook). poll: seconds between looks at first.

        Raises JobCancelled, or the job's own error, rebuilt with its details, where it failed;
        JobPurged where it was deleted meanwhile.
        WaitTimeout and StoreUnreachable end the wait and not the job: it can be waited for again.
        """
        from medgemma_client.watching import watcher

        waiting = Waiting(self, timeout, poll)
        record = waiting.begin()
        if record is None:
            with watcher(progress) as watch, self._bell() as bell:
                record = self._wait(waiting, watch, bell)
        return self._result(record)

    def cancel(self) -> bool:
        """Cancel the job, for all of its tenant who asked the same; False where it had ended.

        The mark is written here and now, so a job that no worker has taken is cancelled too. One
        that runs stops at its next step, and within 5 s in any case. Raises JobNotFound,
        BrokerUnreachable.
        """
        status = self.status()
        if status.state.terminal:
            return False
        self._live.cancel(self.id)
        won = self._end(JobCancelled(f"Job {self.id} was cancelled."), status.attempt)
        try:
            self._live.announce(self.id)
        except BrokerUnreachable as error:  # it has its mark; who waits finds it at the next look
            log.warning("job %s: cancelled, not announced (%s)", self.id, error.code)
        if won:
            return True
        # The worker may have heard of it, and written the mark, before us.
        record = self._ledger.record(self.id)
        return record is not None and record.state is State.CANCELLED

    def _end(self, error: JobError, attempt: int) -> bool:
        """Write the mark ourselves; False where another was first."""
        request = self._ledger.request(self.id)
        now = datetime.now(UTC)
        cancelled = isinstance(error, JobCancelled)
        return self._ledger.commit(
            ExplanationRecord(
                job_id=self.id,
                tenant=self._ledger.tenant,
                state=State.CANCELLED if cancelled else State.FAILED,
                attempt=attempt,
                error=ErrorRecord(code=error.code, message=error.message),
                submitted_at=now if request is None else request.submitted_at,
                finished_at=now,
            )
        )

    def _wait(self, waiting: Waiting, watch: Watcher, bell: Bell | None) -> ExplanationRecord:
        rung = False
        while True:
            record = waiting.look(rung)
            watch(waiting.status)
            if record is not None:
                return record
            rung, pause = False, min(waiting.pause, waiting.left)
            if bell is None:
                time.sleep(pause)
                continue
            try:
                rung = bell.wait(pause)
            except BrokerUnreachable:
                bell = None

    def _status(self, record: ExplanationRecord | None) -> Status:
        return self._under_way() if record is None else self._ended(record)

    def _ended(self, record: ExplanationRecord) -> Status:
        return Status(
            job_id=self.id,
            state=record.state,
            progress=1.0 if record.state is State.SUCCEEDED else 0.0,
            attempt=record.attempt,
            error=record.error,
        )

    def _under_way(self) -> Status:
        live = ahead = None
        if time.monotonic() >= self._redis_away_until:
            try:
                live = self._live.read(self.id)
                if live is None:
                    with self._live.connected() as redis:
                        ahead = place(redis, self._live.tenant, self.id)
            except BrokerUnreachable as error:
                # A result in the store must not be hidden by Redis being away.
                log.warning("job %s: its stage is not known (%s)", self.id, error.code)
                self._redis_away_until = time.monotonic() + REDIS_PAUSE
        if live is None:
            return Status(job_id=self.id, state=State.SUBMITTED, ahead=ahead)
        return Status(
            job_id=self.id,
            state=State.RUNNING,
            stage=live.stage,
            progress=live.progress,
            attempt=live.attempt,
        )

    def _result(self, record: ExplanationRecord) -> Result:
        if record.state is State.SUCCEEDED:
            return Result(record, self._ledger)
        raise _error(record)

    @contextmanager
    def _bell(self) -> Iterator[Bell | None]:
        with ExitStack() as stack:
            try:
                bell = stack.enter_context(self._live.listening(self.id))
            except BrokerUnreachable:
                yield None
            else:
                yield bell


def _error(record: ExplanationRecord) -> MedGemmaError:
    if record.error is None:
        return MedGemmaError(f"Job {record.job_id} {record.state.value}.")
    error = record.error
    return error_from_code(error.code, error.message, error.details)
