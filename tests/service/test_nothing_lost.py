"""What Redis or its transport lost runs all the same: each test loses something else."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from medgemma_client.job import Job
from medgemma_tasks.in_hand import UNACKED
from medgemma_tasks.layout import job_prefix
from medgemma_tasks.queue import queue_names
from tests.service.harness import Service, WorkerProcess, until
from tests.stub_engine import ANSWER, StubEngine

WAIT = 30.0
SHORT = {"MEDGEMMA_VISIBILITY_TIMEOUT": "4"}
"""So a sweep comes every 5 s or so, and looks for 3 s."""


def swallowed(idle: Service, worker: WorkerProcess, question: str) -> Job | None:
    """A job whose message went to a stopped worker; None where it was not waiting just then."""
    os.kill(worker.pid, signal.SIGSTOP)
    job = idle.ask(question)
    time.sleep(0.1)
    if not idle.redis.llen(queue_names("phantom")[0]) and not idle.redis.hlen(UNACKED):
        return job
    os.kill(worker.pid, signal.SIGCONT)
    job.wait(WAIT)
    return None


def test_a_message_that_a_stopped_worker_swallowed_is_put_back(
    idle: Service, tmp_path: Path
) -> None:
    with WorkerProcess(tmp_path, "first", **SHORT) as first:
        tries = (swallowed(idle, first, f"Swallowed {number}?") for number in range(10))
        job = next(job for job in tries if job is not None)
    assert not idle.redis.llen(queue_names("phantom")[0])
    with WorkerProcess(tmp_path, "second", **SHORT) as second:
        assert job.wait(WAIT).answer == ANSWER
        assert f"job {job.id}: was lost" in second.log
        assert second.starts(job) == 1


def test_redis_loses_its_memory_and_every_job_commits_once(idle: Service, tmp_path: Path) -> None:
    idle.ledger.publish_model(StubEngine().served)
    with WorkerProcess(tmp_path, **SHORT) as worker:
        # The first outlasts a sweep, and shows that what is in hand is not put back.
        jobs = [idle.ask("sleep 15"), *(idle.ask(f"sleep 0.1 of {n}") for n in range(29))]
        idle.running(jobs[0])
        idle.redis.flushall()
        for job in jobs:
            until(lambda job=job: idle.ledger.finished(job.id), WAIT)
            record = job.result().record
            under = idle.ledger.store.keys(job_prefix("local", job.id))
            assert len(under) == 2 + len(record.artifacts)
        assert [worker.starts(job) for job in jobs] == [1] * len(jobs)
        assert f"job {jobs[0].id}: was lost" not in worker.log
        assert f"job {jobs[-1].id}: was lost" in worker.log


def test_a_job_whose_message_is_gone_as_its_child_dies_is_put_back_by_an_idle_worker(
    idle: Service, tmp_path: Path
) -> None:
    with WorkerProcess(tmp_path, **SHORT) as worker:
        job = idle.ask("sleep 2 die once")
        idle.running(job)
        idle.redis.flushall()  # so that the parent gives back what is not there
        assert job.wait(WAIT).answer == ANSWER
        assert worker.starts(job) == 2
