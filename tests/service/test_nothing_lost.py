"""What Redis lost while its worker was busy."""

from __future__ import annotations

from pathlib import Path

import psutil

from tests.service.harness import Service, WorkerProcess, until
from tests.stub_engine import ANSWER

WAIT = 60.0
SHORT = {"MEDGEMMA_VISIBILITY_TIMEOUT": "4"}
"""So a sweep comes every 5 s or so, and looks for 3 s."""


def test_a_job_whose_message_is_gone_as_its_child_dies_is_put_back_by_an_idle_worker(
    idle: Service, tmp_path: Path
) -> None:
    with WorkerProcess(tmp_path, **SHORT) as worker:
        job = idle.ask("sleep 2 die once")
        idle.running(job)
        idle.redis.flushall()  # so that the parent gives back what is not there
        assert job.wait(WAIT).answer == ANSWER
        assert worker.starts(job) == 2


def test_a_worker_alone_starts_its_reconciler_again_where_that_was_killed(
    idle: Service, tmp_path: Path
) -> None:
    def reconciles(process: psutil.Process) -> bool:
        try:
            return "medgemma_worker.supervisor.beside" in process.cmdline()
        except psutil.NoSuchProcess:  # or is a zombie by now
            return False

    def reconcilers() -> list[psutil.Process]:
        return list(filter(reconciles, psutil.Process(worker.pid).children()))

    with WorkerProcess(tmp_path, **SHORT) as worker:
        (first,) = reconcilers()
        first.kill()
        until(lambda: reconcilers() not in ([], [first]), WAIT)
        (second,) = reconcilers()
        worker.terminate()
        assert worker.wait(WAIT) == 0
        assert not second.is_running()


class Supervisor(WorkerProcess):
    """The command that serves each device, here the CPU, and reconciles in a thread."""

    command = ("-m", "medgemma_cli", "worker", "--gpus", "cpu")


def test_a_supervisor_puts_back_what_redis_lost(idle: Service, tmp_path: Path) -> None:
    with Supervisor(tmp_path, "supervisor", **SHORT) as worker:
        jobs = [idle.ask(f"sleep 0.5 of {number}") for number in range(8)]
        until(lambda: worker.starts(jobs[0]), WAIT)
        idle.redis.flushall()
        for job in jobs:
            assert job.wait(WAIT).answer == ANSWER
        assert f"job {jobs[-1].id}: was lost" in worker.log
        assert [worker.starts(job) for job in jobs] == [1] * len(jobs)
        worker.terminate()
        assert worker.wait(WAIT) == 0
