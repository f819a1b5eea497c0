"""Listing the jobs that failed."""

from __future__ import annotations

import logging

import pytest

from medgemma_tasks import dead
from medgemma_tasks.dead import DeadJob, dead_jobs
from medgemma_tasks.layout import result_key
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.models import Death, ErrorRecord, Stage, State
from tests.parts import JOB, NOW, OTHER_JOB, record_of

DEATH = Death(
    attempt=1,
    at=NOW,
    worker="gpu0@host",
    signal="SIGKILL",
    stage=Stage.GENERATING,
    memory_bytes=12_300_000_000,
)


def fail(ledger: Ledger, job: str, code: str, **details: object) -> None:
    error = ErrorRecord(code=code, message="canary: it said so", details=details)
    mark = record_of(job, State.FAILED, attempt=3).model_copy(update={"error": error})
    assert ledger.commit(mark)


def test_a_job_that_killed_its_workers_is_listed_with_what_was_known(ledger: Ledger) -> None:
    noted = [DEATH.model_dump(mode="json"), {"attempt": 2, "from": "a newer version"}, "x"]
    fail(ledger, JOB, "worker_lost", deaths=noted, attempts=3)
    assert list(dead_jobs(ledger)) == [
        DeadJob(job_id=JOB, finished_at=NOW, code="worker_lost", attempts=3, deaths=(DEATH,))
    ]


@pytest.mark.parametrize("details", [{}, {"deaths": None}, {"deaths": "x"}, {"deaths": []}])
def test_nothing_may_be_known_of_any_death(ledger: Ledger, details: dict[str, object]) -> None:
    fail(ledger, JOB, "worker_lost", **details)
    assert [job.deaths for job in dead_jobs(ledger)] == [()]


def test_other_failures_are_listed_where_they_are_asked_for(ledger: Ledger) -> None:
    fail(ledger, JOB, "worker_lost")
    fail(ledger, OTHER_JOB, "keyword_not_in_answer", answer="canary")
    ledger.commit(record_of("1" * 32))
    ledger.commit(record_of("2" * 32, State.CANCELLED))
    assert [job.job_id for job in dead_jobs(ledger)] == [JOB]
    every = list(dead_jobs(ledger, all_codes=True))
    assert [job.code for job in every] == ["worker_lost", "keyword_not_in_answer"]
    assert "canary" not in repr(every)


def test_a_mark_of_a_newer_version_is_passed_over_and_said(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    fail(ledger, OTHER_JOB, "worker_lost")
    ledger.store.put(result_key("local", JOB), b'{"schema_version": 99}')
    with caplog.at_level(logging.WARNING):
        assert [job.job_id for job in dead_jobs(ledger)] == [OTHER_JOB]
    assert "passed over (invalid_request)" in caplog.text


def test_many_are_read_a_page_at_a_time(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead, "MARKS_PAGE", 3)
    names = [f"{number:032x}" for number in range(8)]
    for name in names:
        fail(ledger, name, "worker_lost")
    listing = dead_jobs(ledger)
    assert next(listing).job_id == names[0]
    ledger.store.delete(result_key("local", names[7]))  # it had not come so far
    assert [job.job_id for job in listing] == names[1:7]
