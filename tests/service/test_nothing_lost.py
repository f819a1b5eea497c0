"""What Redis lost while its worker was busy."""

from __future__ import annotations

from pathlib import Path

from tests.service.harness import Service, WorkerProcess
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
