from __future__ import annotations

from typing import Any

import pytest
from celery.exceptions import Reject

from medgemma_tasks.errors import StoreUnreachable
from medgemma_tasks.queue import Shard
from medgemma_worker import process, task
from tests.parts import JOB, OTHER_JOB

MESSAGE = {"schema": 1, "tenant": "local", "jobs": [JOB, OTHER_JOB]}


class Runner:
    def __init__(self, trouble: dict[str, Exception]) -> None:
        self.trouble = trouble
        self.ran: list[str] = []

    def run(self, job_id: str) -> None:
        self.ran.append(job_id)
        if job_id in self.trouble:
            raise self.trouble[job_id]


@pytest.fixture
def trouble(monkeypatch: pytest.MonkeyPatch) -> dict[str, Exception]:
    return {}


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch, trouble: dict[str, Exception]) -> Runner:
    runner = Runner(trouble)

    class Here:
        def publish_model(self) -> None: ...

        def runner(self, tenant: str) -> Runner:
            return runner

    monkeypatch.setattr(process, "current", Here)
    monkeypatch.setattr(task, "PAUSE", 0.0)
    return runner


def test_a_message_is_read_as_a_shard() -> None:
    shard = task.read_shard((MESSAGE,), {})
    assert shard is not None
    assert shard.jobs == (JOB, OTHER_JOB)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((), {}), ((MESSAGE, MESSAGE), {}), ((MESSAGE,), {"x": 1}), (("text",), {}), (({},), {})],
)
def test_any_other_message_is_dropped_without_a_word_of_it_in_the_log(
    args: tuple[Any, ...], kwargs: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    assert task.read_shard(args, kwargs) is None
    assert [record.getMessage() for record in caplog.records] == [
        "a message that is no shard of jobs was dropped"
    ]


def test_all_jobs_of_a_shard_run(runner: Runner) -> None:
    task.run_shard(Shard.model_validate(MESSAGE))
    assert runner.ran == [JOB, OTHER_JOB]


@pytest.mark.parametrize("error", [StoreUnreachable("away"), ValueError("a defect of ours")])
def test_a_job_that_must_come_again_brings_its_message_back(
    runner: Runner, trouble: dict[str, Exception], error: Exception
) -> None:
    """Its shard-mates run all the same."""
    trouble[JOB] = error
    with pytest.raises(Reject) as caught:
        task.run_shard(Shard.model_validate(MESSAGE))
    assert caught.value.requeue
    assert runner.ran == [JOB, OTHER_JOB]
