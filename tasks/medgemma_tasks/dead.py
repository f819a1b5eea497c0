"""Jobs that failed, and what was known of each death: nothing of what was asked, or answered."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from medgemma_tasks import layout
from medgemma_tasks.errors import InvalidRequest, WorkerLost
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.models import Death, ExplanationRecord, JobId, State, Strict
from medgemma_tasks.walking import jobs_of, pages

log = logging.getLogger(__name__)

READS_AT_ONCE = 8
"""Marks that are read beside each other: each finished job has one."""

MARKS_PAGE = 256
"""Marks that are held at a time."""


class DeadJob(Strict):
    """A job that failed."""

    job_id: JobId
    finished_at: datetime
    code: str
    """``worker_lost``, unless other failures were asked for too."""
    attempts: int
    deaths: tuple[Death, ...]
    """In order; there is none for an attempt of which nothing is known."""


def dead_jobs(ledger: Ledger, *, all_codes: bool = False) -> Iterator[DeadJob]:
    """A tenant's jobs that ended as ``worker_lost``, or all that failed, in the order of their ids.

    Goes page by page over the store, and reads the mark of every finished job. One that this
    version cannot read is passed over, with a warning.
    """
    finished = (
        job_id
        for job_id, entries in jobs_of(ledger.store, ledger.tenant)
        if any(layout.is_result(entry.key) for entry in entries)
    )
    with ThreadPoolExecutor(READS_AT_ONCE, "marks") as pool:
        for page in pages(finished, MARKS_PAGE):
            for mark in pool.map(lambda job_id: _mark(ledger, job_id), page):
                if mark is None or mark.state is not State.FAILED or mark.error is None:
                    continue
                if all_codes or mark.error.code == WorkerLost.code:
                    yield _dead(mark)


def _mark(ledger: Ledger, job_id: str) -> ExplanationRecord | None:
    try:
        return ledger.record(job_id)
    except InvalidRequest as error:
        log.warning("a mark in the store was passed over (%s)", error.code)
        return None


def _dead(mark: ExplanationRecord) -> DeadJob:
    details = {} if mark.error is None else mark.error.details
    noted = details.get("deaths")
    return DeadJob(
        job_id=mark.job_id,
        finished_at=mark.finished_at,
        code="" if mark.error is None else mark.error.code,
        attempts=mark.attempt,
        deaths=tuple(filter(None, map(_death, noted if isinstance(noted, list) else []))),
    )


def _death(noted: Any) -> Death | None:
    try:
        return Death.model_validate(noted)
    except ValidationError:
        return None  # of another version
