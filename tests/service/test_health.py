"""How real workers say that they are, in each state that a fault can put them into."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from medgemma_tasks import workers
from medgemma_tasks.models import Stage, State, WorkerHealth, WorkerState
from medgemma_worker.exits import LOAD_FAILED
from tests.service.harness import Service, WorkerProcess, until
from tests.stub_engine import ANSWER, StubEngine

WAIT = 30.0
SHORT = {"MEDGEMMA_VISIBILITY_TIMEOUT": "6"}
"""So a silence of 3 s is too long."""


def said(service: Service) -> dict[int, WorkerHealth]:
    """What workers last said, by the pid of their parents."""
    with service.live.connected() as redis:
        return {health.pid: health for health in workers.workers(redis)}


def becomes(
    service: Service,
    worker: WorkerProcess,
    state: WorkerState,
    seconds: float = WAIT,
    *,
    job: bool = False,
) -> WorkerHealth:
    """Wait until a worker says that it is so; ``job``: and which job it has in hand, which comes a
    moment after the message that has it."""
    found: list[WorkerHealth] = []

    def so() -> bool:
        health = said(service).get(worker.pid)
        if health is not None and health.state is state and (health.job is not None or not job):
            found.append(health)
        return bool(found)

    until(so, seconds, lambda: f"{said(service)}\n{worker.log}")
    return found[0]


def stays(service: Service, worker: WorkerProcess, state: WorkerState) -> None:
    """For longer than the silence that would make a worker defunct it is nothing but this."""
    end = time.monotonic() + 6
    while time.monotonic() < end:
        health = said(service)[worker.pid]
        assert health.state is state, health
        time.sleep(0.5)


def test_a_worker_is_starting_then_ready_then_busy_then_gone(idle: Service, tmp_path: Path) -> None:
    idle.ledger.publish_model(StubEngine().served)
    with WorkerProcess(tmp_path, STUB_LOAD_SECONDS="3").spawned() as worker:
        starting = becomes(idle, worker, WorkerState.STARTING)
        assert starting.beat_seconds is None
        ready = becomes(idle, worker, WorkerState.READY)
        assert (ready.model, ready.job, ready.done) == ("phantom", None, 0)
        job = idle.ask("sleep 3")
        busy = becomes(idle, worker, WorkerState.BUSY, job=True)
        assert busy.job is not None
        assert (busy.job.tenant, busy.job.job_id, busy.job.attempt) == ("local", job.id, 1)
        job.wait(WAIT)
        assert becomes(idle, worker, WorkerState.READY).done == 1
        last = idle.ask("gate")
        until(lambda: last.status().stage is Stage.EXPLAINING, WAIT)
        worker.terminate()
        stopping = becomes(idle, worker, WorkerState.STOPPING, job=True)
        assert stopping.job is not None
        assert stopping.job.stage is Stage.EXPLAINING
        worker.gate.touch()
        assert worker.wait(WAIT) == 0
        assert said(idle) == {}
        assert last.status().state is State.SUCCEEDED


def test_an_idle_worker_stays_ready_because_its_child_beats_and_the_queue_answers(
    idle: Service, tmp_path: Path
) -> None:
    with WorkerProcess(tmp_path, **SHORT) as worker:
        becomes(idle, worker, WorkerState.READY)
        stays(idle, worker, WorkerState.READY)


@pytest.mark.parametrize("at_work", [False, True])
def test_a_worker_whose_child_stands_still_is_defunct_until_it_goes_on(
    idle: Service, tmp_path: Path, at_work: bool
) -> None:
    with WorkerProcess(tmp_path, **SHORT) as worker:
        job = idle.ask("sleep 5" if at_work else "Anything?")
        if at_work:
            becomes(idle, worker, WorkerState.BUSY)
        else:
            # It has its mark a moment before the worker is through with it.
            until(lambda: said(idle)[worker.pid].done == 1, WAIT, lambda: worker.log)
        child = worker.child_of(job)
        os.kill(child, signal.SIGSTOP)
        defunct = becomes(idle, worker, WorkerState.DEFUNCT)
        assert (defunct.job is not None) == at_work
        assert defunct.beat_seconds is not None
        assert defunct.beat_seconds >= 3
        os.kill(child, signal.SIGCONT)
        assert job.wait(WAIT).answer == ANSWER
        becomes(idle, worker, WorkerState.READY)


def test_a_worker_whose_child_hangs_in_a_driver_is_defunct(idle: Service, tmp_path: Path) -> None:
    with WorkerProcess(tmp_path, **SHORT) as worker:
        job = idle.ask("deaf hang 60")
        defunct = becomes(idle, worker, WorkerState.DEFUNCT)
        assert defunct.job is not None
        assert defunct.job.job_id == job.id
        # What runs in Python, however long, is not.
        os.kill(worker.child_of(job), signal.SIGKILL)
        job.cancel()
        becomes(idle, worker, WorkerState.READY)
        # The cancelled one may come once more before it.
        idle.running(idle.ask("hang 30"))
        becomes(idle, worker, WorkerState.BUSY)
        stays(idle, worker, WorkerState.BUSY)


def test_what_a_worker_says_is_back_soon_after_redis_lost_its_memory(
    idle: Service, tmp_path: Path
) -> None:
    with WorkerProcess(tmp_path, **SHORT) as worker:
        becomes(idle, worker, WorkerState.READY)
        idle.redis.flushdb()
        becomes(idle, worker, WorkerState.READY)


def test_a_worker_that_was_killed_is_forgotten(idle: Service, tmp_path: Path) -> None:
    with WorkerProcess(tmp_path, **SHORT) as worker:
        becomes(idle, worker, WorkerState.READY)
    until(lambda: said(idle) == {}, WAIT)


def test_a_model_that_cannot_be_loaded_is_seen_after_its_workers_and_supervisor_ended(
    idle: Service, tmp_path: Path
) -> None:
    with Supervisor(tmp_path, "supervisor", STUB_LOAD="fail").spawned() as supervisor:
        assert supervisor.wait(2 * WAIT) == 1, supervisor.log
        assert supervisor.log.count(f"ended with status {LOAD_FAILED}") == 3
    with idle.live.connected() as redis:
        (failed,) = workers.workers(redis)
    assert failed.name.startswith("cpu@")
    assert (failed.device, failed.state) == ("cpu", WorkerState.SETUP_FAILED)


def test_those_who_wait_learn_their_place(idle: Service, tmp_path: Path) -> None:
    with WorkerProcess(tmp_path) as worker:
        first = idle.ask("sleep 60")
        becomes(idle, worker, WorkerState.BUSY)
        waiting = [idle.ask(f"Waiting {number}?") for number in range(3)]
        until(lambda: [job.status().ahead for job in waiting] == [0, 1, 2], WAIT)
        waiting[0].cancel()
        first.cancel()
        for job in waiting[1:]:
            assert job.wait(WAIT).answer == ANSWER


class Supervisor(WorkerProcess):
    """``medgemma-explainer worker --gpus cpu``."""

    command = ("-m", "medgemma_cli", "worker", "--gpus", "cpu")
