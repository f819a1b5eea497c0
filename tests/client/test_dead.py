"""What failed, and asking for it again, without its images."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from medgemma_client.client import Client
from medgemma_client.job import Job
from medgemma_tasks.errors import InvalidRequest, JobNotFailed, JobNotFound
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.models import ErrorRecord, State
from tests.parts import OTHER_JOB, picture, record_of

Run = Callable[[Job], None]


def test_a_dead_job_is_found_and_runs_again_with_what_the_store_kept(
    client: Client, ledger: Ledger, run: Run, published: list[str]
) -> None:
    job = client.submit(picture(), "What?")
    lost = ErrorRecord(code="worker_lost", message="It died.")
    ledger.commit(record_of(job.id, State.FAILED).model_copy(update={"error": lost}))
    assert [dead.job_id for dead in client.dead()] == [job.id]
    again = client.requeue(job.id)
    assert published == [job.id, job.id]
    assert again.status().state is State.SUBMITTED
    assert list(client.dead()) == []
    run(again)
    assert again.result().answer


def test_other_failures_are_among_the_dead_only_on_demand(client: Client, run: Run) -> None:
    job = client.submit(picture(), "crash")
    run(job)
    assert list(client.dead()) == []
    assert [dead.code for dead in client.dead(all_codes=True)] == ["internal_error"]


def test_a_job_that_is_no_failure_cannot_be_requeued(
    client: Client, run: Run, published: list[str]
) -> None:
    job = client.submit(picture(), "What?")
    with pytest.raises(JobNotFailed, match="has not ended"):
        client.requeue(job.id)
    run(job)
    with pytest.raises(JobNotFailed, match="succeeded"):
        client.requeue(job.id)
    with pytest.raises(JobNotFound):
        client.requeue(OTHER_JOB)
    with pytest.raises(InvalidRequest):
        client.requeue("../../x")
    assert published == [job.id]
