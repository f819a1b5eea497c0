"""Waiting for a job, a look at a time: what passes between two looks is up to the one who waits."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from math import inf
from typing import TYPE_CHECKING

from medgemma_tasks.errors import BrokerUnreachable, JobExpired, WaitTimeout
from medgemma_tasks.gone import check_not_purged
from medgemma_tasks.models import ExplanationRecord, State, Status

if TYPE_CHECKING:
    from medgemma_client.job import Job

FIRST_POLL, LAST_POLL = 0.05, 1.0
"""Seconds between two looks at the store: at first, and after a while. A bell in Redis wakes the
waiter sooner; without Redis these are what it has."""

BACK_OFF = 1.3
"""By how much each pause is longer than the one before."""

LEEWAY = timedelta(seconds=2)
"""After a deadline, for a worker to say so itself. Then the one who waits ends the job."""


class Waiting:
    """One wait for a job that has not ended: ``look``, and where that finds nothing wait for
    ``pause`` seconds (as many as are ``left``, at most), or for a bell, and look again."""

    def __init__(self, job: Job, timeout: float | None, poll: float) -> None:
        self._job, self._ledger = job, job._ledger
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self.pause = poll
        """Seconds until the next look."""
        self._expires_at: datetime | None = None
        self._looked = False
        self.status = Status(job_id=job.id, state=State.SUBMITTED)
        """As the last look found it."""

    def begin(self) -> ExplanationRecord | None:
        """The mark of a job that has ended. Raises JobNotFound: such a job would be waited for in
        vain."""
        record = self._ledger.record(self._job.id)
        if record is None:
            self._job.status()
        return record

    def look(self, rung: bool = False) -> ExplanationRecord | None:
        """The mark, or None while there is none. rung: whether a bell woke us.

        Raises JobPurged where it was deleted meanwhile.
        """
        if not self._looked:
            self._looked, self._expires_at = True, self._expiry()
        else:
            if rung or self.pause >= LAST_POLL:
                with suppress(BrokerUnreachable):
                    check_not_purged(self._ledger, self._job.id)
            self.pause = min(self.pause * BACK_OFF, LAST_POLL)
        while True:
            record = self._ledger.record(self._job.id)
            self.status = self._job._status(record)
            if record is not None or not self._expired(self.status.attempt):
                return record

    @property
    def left(self) -> float:
        """Seconds for which it may still be waited. Raises WaitTimeout where there are none."""
        left = inf if self._deadline is None else self._deadline - time.monotonic()
        if left <= 0:
            raise WaitTimeout(
                f"Job {self._job.id} has not ended yet. It goes on; wait again.",
                job_id=self._job.id,
            )
        return left

    def _expired(self, attempt: int) -> bool:
        """Whether its deadline has passed, or had until it was moved: then look again."""
        before = self._expires_at
        if before is None or datetime.now(UTC) <= before:
            return False
        self._expires_at = self._expiry()
        if before == self._expires_at:
            error = JobExpired(f"The deadline of job {self._job.id} passed; no worker had time.")
            self._job._end(error, attempt)
        return True

    def _expiry(self) -> datetime | None:
        """Until when workers have time for the job."""
        request = self._ledger.request(self._job.id)
        expires_at = None if request is None else request.expires_at
        return None if expires_at is None else expires_at + LEEWAY
