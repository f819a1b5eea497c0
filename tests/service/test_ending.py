"""How a job ends that does not end by itself: cancelled, past its deadline, dead."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from medgemma_tasks.errors import JobCancelled, JobExpired, WorkerLost
from medgemma_tasks.layout import job_prefix
from medgemma_tasks.models import Stage, State
from medgemma_tasks.queue import make_app, publish
from tests.service.harness import Service, WorkerProcess, until
from tests.stub_engine import ANSWER, StubEngine

WAIT = 30.0


def _runs(idle: Service, prompt: str) -> tuple[str, int]:
    """A job that is in the middle of a long step: its id, and the process that runs it."""
    job = idle.ask(prompt)
    idle.running(job)
    until(lambda: idle.worker.starts(job) > 0, WAIT)  # while it fetches, it runs too
    return job.id, idle.worker.child_of(job)


def test_a_cancelled_job_ends_in_the_middle_of_a_step_and_its_process_goes_on(
    idle: Service,
) -> None:
    with idle.worker:
        job_id, child = _runs(idle, "hang 60")
        assert idle.client.job(job_id).cancel()
        after = idle.ask("After that?")
        assert after.wait(WAIT).answer == ANSWER
        assert idle.worker.child_of(after) == child
    with pytest.raises(JobCancelled):
        idle.client.job(job_id).wait(1)


def test_a_cancelled_job_that_hears_no_signal_is_killed(idle: Service) -> None:
    with idle.worker:
        job_id, child = _runs(idle, "deaf hang 60")
        assert idle.client.job(job_id).cancel()
        after = idle.ask("After that?")
        assert after.wait(WAIT).answer == ANSWER
        assert idle.worker.child_of(after) != child
        assert "does not hear it" in idle.worker.log
    assert idle.client.job(job_id).status().state is State.CANCELLED
    assert idle.worker.starts(idle.client.job(job_id)) == 1


def test_a_job_past_its_deadline_is_not_run(idle: Service) -> None:
    idle.ledger.publish_model(StubEngine().served)
    late, kept = idle.ask("Late?", expires=0.5), idle.ask("In time?", expires=600)
    time.sleep(0.6)
    with idle.worker:
        with pytest.raises(JobExpired):
            late.wait(WAIT)
        assert kept.wait(WAIT).answer == ANSWER
        assert idle.worker.starts(late) == 0


def test_a_running_job_ends_at_its_deadline(idle: Service) -> None:
    with idle.worker:
        job = idle.ask("sleep 60", expires=4)
        with pytest.raises(JobExpired):
            job.wait(WAIT)
        assert job.status().attempt == 1


def test_who_waits_ends_a_job_at_its_deadline_where_no_worker_is(idle: Service) -> None:
    idle.ledger.publish_model(StubEngine().served)
    with pytest.raises(JobExpired):
        idle.ask("Anybody?", expires=0.2).wait(WAIT)


def test_a_job_that_is_given_up_tells_what_was_known_of_each_death(
    idle: Service, tmp_path: Path
) -> None:
    with WorkerProcess(tmp_path, MEDGEMMA_MAX_ATTEMPTS="2"):
        job = idle.ask("sleep 1.5 die")
        with pytest.raises(WorkerLost) as caught:
            job.wait(WAIT)
    deaths = caught.value.details["deaths"]
    assert [(death["attempt"], death["signal"]) for death in deaths] == [
        (1, "SIGKILL"),
        (2, "SIGKILL"),
    ]
    assert all(death["memory_bytes"] > 1_000_000 for death in deaths)
    assert all(death["stage"] == Stage.EXPLAINING for death in deaths)
    assert idle.ledger.has_request(job.id)


def test_a_shard_comes_apart_after_a_death_and_only_the_culprit_is_lost(idle: Service) -> None:
    idle.ledger.publish_model(StubEngine().served)
    jobs = [idle.ask(prompt) for prompt in ("One?", "Two?", "die", "Four?", "Five?")]
    idle.redis.flushall()
    publish(make_app(idle.settings), idle.settings, "phantom", [job.id for job in jobs], batch=True)
    with idle.worker:
        for job in jobs:
            until(lambda job=job: job.status().state.terminal, WAIT)
        assert [job.status().state for job in jobs] == [
            *(2 * [State.SUCCEEDED]),
            State.FAILED,
            *(2 * [State.SUCCEEDED]),
        ]
        starts = [idle.worker.starts(job) for job in jobs]
        assert starts[2] == 3
        assert max(starts[:2] + starts[3:]) <= 2  # once beside it, and once alone
        assert "was split after a death" in idle.worker.log


def test_each_job_of_a_shard_has_the_limit_of_one(idle: Service, tmp_path: Path) -> None:
    """Celery's is for the whole message: the late would take the time of those behind them."""
    idle.ledger.publish_model(StubEngine().served)
    prompts = ("hang 60", "One?", "hang 61", "Two?", "sleep 1 three", "Four?")
    jobs = [idle.ask(prompt) for prompt in prompts]
    idle.redis.flushall()
    publish(make_app(idle.settings), idle.settings, "phantom", [job.id for job in jobs], batch=True)
    limits = {"MEDGEMMA_SOFT_TIME_LIMIT": "3", "MEDGEMMA_HARD_TIME_LIMIT": "40"}
    with WorkerProcess(tmp_path, **limits) as worker:
        for job in jobs:
            until(lambda job=job: job.status().state.terminal, WAIT)
        codes = [error.code if (error := job.status().error) else None for job in jobs]
        assert codes == ["time_limit", None, "time_limit", None, None, None]
        assert [worker.starts(job) for job in jobs] == [1] * len(jobs)


def test_a_worker_that_dies_three_times_while_it_loads_ends(idle: Service, tmp_path: Path) -> None:
    with WorkerProcess(tmp_path, STUB_LOAD="die").spawned() as worker:
        assert worker.wait(WAIT) == 78
        assert worker.log.count("loaded it (out of memory?)") == 1


def test_a_job_that_outlives_a_workers_grace_is_not_counted_against_it(
    idle: Service, tmp_path: Path
) -> None:
    """Four times told to stop over one job, of which three attempts are allowed."""
    grace = {"MEDGEMMA_SHUTDOWN_GRACE": "0"}
    idle.ledger.publish_model(StubEngine().served)
    job = idle.ask("gate")
    for turn in range(4):
        with WorkerProcess(tmp_path, f"turn {turn}", **grace) as worker:
            until(lambda n=turn: worker.starts(job) == n + 1, WAIT)
            worker.terminate()
            worker.wait(WAIT)
    idle.worker.gate.touch()
    with idle.worker:
        assert job.wait(WAIT).record.attempt == 1


def test_a_dead_attempts_artifacts_go_with_the_commit(idle: Service) -> None:
    with idle.worker:
        job = idle.ask("once gate")  # the second attempt finds no gate
        idle.running(job)
        idle.ledger.put_artifacts(job.id, "1-dead", {"relevancy.npz": (b"x", "x/x")})
        os.kill(idle.worker.child_of(job), signal.SIGKILL)
        result = job.wait(WAIT)
        assert result.record.attempt == 2
        kept = 2 + len(result.record.artifacts)
        until(lambda: len(idle.ledger.store.keys(job_prefix("local", job.id))) == kept, 30.0)


def test_a_job_delivered_twice_runs_on_one_worker_at_a_time(idle: Service, tmp_path: Path) -> None:
    first, second = (WorkerProcess(tmp_path, name) for name in ("first", "second"))
    with first, second:
        job = idle.ask("gate")
        idle.running(job)
        for _ in range(3):
            publish(make_app(idle.settings), idle.settings, "phantom", [job.id])
        until(lambda: "runs on another worker" in first.log + second.log, WAIT)
        first.gate.touch()
        assert job.wait(WAIT).record.attempt == 1
        until(lambda: "has its result already" in first.log + second.log, WAIT)
        assert first.starts(job) == 1
