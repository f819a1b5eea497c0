from __future__ import annotations

import pytest
from celery.exceptions import Reject, SoftTimeLimitExceeded

from medgemma_tasks.errors import BrokerUnreachable, StoreRefused, StoreUnreachable
from medgemma_tasks.jitter import SPREAD
from medgemma_tasks.queue import TASK, Shard, make_app
from medgemma_tasks.settings import Settings
from medgemma_worker import process, task
from medgemma_worker.board import Board
from medgemma_worker.delivery import PAUSE, REFUSED_PAUSE, Delivery
from medgemma_worker.wrappers.held import RunsElsewhere
from tests.parts import JOB, OTHER_JOB

MESSAGE = {"schema": 1, "tenant": "local", "jobs": [JOB, OTHER_JOB]}


class Runner:
    def __init__(self, trouble: dict[str, Exception]) -> None:
        self.trouble = trouble
        self.ran: list[str] = []
        self.dead: set[str] = set()
        self.done: set[str] = set()

    def died(self, job_id: str) -> bool:
        return job_id in self.dead

    def finished(self, job_id: str) -> bool:
        return job_id in self.done

    def run(self, job_id: str) -> None:
        self.ran.append(job_id)
        if job_id in self.trouble:
            raise self.trouble[job_id]


@pytest.fixture
def trouble(monkeypatch: pytest.MonkeyPatch) -> dict[str, Exception]:
    return {}


@pytest.fixture
def runner(
    monkeypatch: pytest.MonkeyPatch, trouble: dict[str, Exception], back: list[str]
) -> Runner:
    runner = Runner(trouble)

    class Here:
        def publish_model(self) -> None: ...

        def tidy_up(self) -> None: ...

        def runner(self, tenant: str) -> Runner:
            return runner

        def delivery(self, shard: Shard, *, batch: bool) -> Delivery:
            return Delivery(shard, runner, back.append)

        def serve(self, delivery: Delivery, *, batch: bool) -> None:
            while delivery.waiting:
                delivery.run(delivery.waiting.popleft())

    here = Here()
    monkeypatch.setattr(process, "current", lambda: here)
    return runner


@pytest.fixture
def back() -> list[str]:
    """What was put back on the queue, each as a message of its own."""
    return []


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr(task.time, "sleep", found.append)
    return found


def test_all_jobs_of_a_shard_run(runner: Runner, back: list[str]) -> None:
    task.run_shard(Shard.model_validate(MESSAGE), batch=True)
    assert runner.ran == [JOB, OTHER_JOB]
    assert not back


@pytest.mark.parametrize(
    ("error", "pause"),
    [
        (StoreUnreachable("away"), PAUSE),
        (ValueError("a defect of ours"), PAUSE),
        (StoreRefused("no"), REFUSED_PAUSE),
        (RunsElsewhere(), PAUSE),
    ],
)
def test_a_job_that_must_come_again_brings_its_message_back_after_a_pause(
    runner: Runner,
    trouble: dict[str, Exception],
    pauses: list[float],
    back: list[str],
    error: Exception,
    pause: float,
) -> None:
    """Its shard-mates run all the same."""
    trouble[JOB] = error
    with pytest.raises(Reject) as caught:
        task.run_shard(Shard.model_validate(MESSAGE), batch=True)
    assert caught.value.requeue
    assert runner.ran == [JOB, OTHER_JOB]
    (slept,) = pauses
    assert pause * (1 - SPREAD) <= slept <= pause * (1 + SPREAD)


def test_workers_that_saw_a_part_go_away_do_not_come_back_in_step(
    runner: Runner, trouble: dict[str, Exception], pauses: list[float], back: list[str]
) -> None:
    trouble[JOB] = StoreUnreachable("away")
    for _ in range(8):
        with pytest.raises(Reject):
            task.run_shard(Shard.model_validate(MESSAGE), batch=True)
    assert len(set(pauses)) == 8


def test_a_limit_that_ends_the_pause_loses_no_job(
    runner: Runner,
    trouble: dict[str, Exception],
    back: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ended(seconds: float) -> None:
        raise SoftTimeLimitExceeded

    monkeypatch.setattr(task.time, "sleep", ended)
    trouble[JOB] = StoreUnreachable("away")
    with pytest.raises(Reject):
        task.run_shard(Shard.model_validate(MESSAGE), batch=True)


def test_a_shard_over_which_a_process_died_comes_apart(runner: Runner, back: list[str]) -> None:
    """What has ended stays ended; nothing runs here and now."""
    runner.dead, runner.done = {OTHER_JOB}, {JOB}
    task.run_shard(Shard.model_validate(MESSAGE), batch=True)
    assert back == [OTHER_JOB]
    assert not runner.ran


def test_a_single_job_over_which_a_process_died_runs_again(runner: Runner, back: list[str]) -> None:
    runner.dead = {JOB}
    task.run_shard(Shard.model_validate({**MESSAGE, "jobs": [JOB]}), batch=True)
    assert runner.ran == [JOB]
    assert not back


def test_a_shard_that_cannot_be_taken_apart_comes_again_whole(
    runner: Runner, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner.dead = {JOB}

    class Away(list[str]):
        def append(self, job_id: str) -> None:
            raise BrokerUnreachable("away")

    away = Away()
    monkeypatch.setattr(
        process.current(),
        "delivery",
        lambda shard, batch: Delivery(shard, runner, away.append),
        raising=False,
    )
    with pytest.raises(Reject):
        task.run_shard(Shard.model_validate(MESSAGE), batch=True)
    assert not runner.ran


def test_a_limit_that_falls_between_two_jobs_has_the_message_back(
    runner: Runner, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def between(shard: Shard, *, batch: bool) -> None:
        raise SoftTimeLimitExceeded

    app = make_app(settings)
    task.register(app, settings, Board())
    monkeypatch.setattr(task, "run_shard", between)
    with pytest.raises(Reject) as caught:
        app.tasks[TASK].run(MESSAGE)
    assert caught.value.requeue
