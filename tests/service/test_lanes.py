"""Which of the two queues goes first, with real workers."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

from medgemma_client.job import Job
from medgemma_tasks import workers
from medgemma_tasks.models import WorkerHealth
from medgemma_tasks.queue import make_app, publish
from tests.service.harness import Service, WorkerProcess, together, until

WAIT = 60.0
SHORT = {"MEDGEMMA_VISIBILITY_TIMEOUT": "8"}
"""So a fleet is looked at every 2 s."""
LOAD = 8
"""Interactive jobs that wait."""


def ask_batch(service: Service) -> Job:
    """Submit a job onto the batch queue."""

    def to_batch(model: str, tenant: str, job_id: str, batch: bool) -> None:
        app = make_app(service.settings)
        publish(app, service.settings, model, [job_id], tenant=tenant, batch=True)

    with patch.object(service.client, "_publish", to_batch):
        return service.ask("a batch job")


def team(service: Service) -> list[WorkerHealth]:
    with service.live.connected() as redis:
        return workers.workers(redis)


def bulk_first(service: Service) -> list[int]:
    """The workers, by their pids, that say they serve batch jobs first."""
    return [worker.pid for worker in team(service) if worker.bulk_first]


def test_under_a_load_of_interactive_jobs_two_workers_still_take_a_batch_job(
    idle: Service, tmp_path: Path
) -> None:
    one, other = WorkerProcess(tmp_path, "one", **SHORT), WorkerProcess(tmp_path, "other", **SHORT)
    with together(one, other):
        until(lambda: len(bulk_first(idle)) == 1, WAIT, lambda: f"{team(idle)}\n{one.log}")
        for number in range(2):  # neither takes another job until all wait
            idle.running(idle.ask(f"gate {number}"))
        load = [idle.ask(f"sleep 0.2 {number}") for number in range(LOAD)]
        batch = ask_batch(idle)
        one.gate.touch()
        for job in (*load, batch):
            job.wait(WAIT)
        last = max(one.started(job)[0] for job in load)
        assert one.started(batch)[0] < last
        until(lambda: len(bulk_first(idle)) == 1, WAIT)
        (pid,) = bulk_first(idle)
        leaving, staying = (one, other) if other.pid == pid else (other, one)
        leaving.terminate()
        leaving.wait(WAIT)
        until(lambda: not bulk_first(idle) and len(team(idle)) == 1, WAIT, lambda: staying.log)


def test_one_worker_that_is_alone_takes_interactive_jobs_first(
    idle: Service, tmp_path: Path
) -> None:
    with WorkerProcess(tmp_path, **SHORT) as worker:
        first = idle.ask("gate")
        idle.running(first)
        batch = ask_batch(idle)
        load = [idle.ask(f"sleep 0.1 {number}") for number in range(LOAD)]
        worker.gate.touch()
        for job in (*load, batch):
            job.wait(WAIT)
        assert worker.started(batch)[0] > max(worker.started(job)[0] for job in load)
        assert not bulk_first(idle)
