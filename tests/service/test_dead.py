"""A job that killed its worker, from its mark to its result."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from medgemma_tasks.errors import WorkerLost
from medgemma_tasks.layout import job_prefix
from tests.service.harness import Service, WorkerProcess
from tests.stub_engine import ANSWER

WAIT = 30.0


def test_a_job_given_up_is_among_the_dead_and_requeued_runs_to_its_result(
    idle: Service, tmp_path: Path
) -> None:
    with WorkerProcess(tmp_path, MEDGEMMA_MAX_ATTEMPTS="1") as worker:
        job = idle.ask("die once")
        with pytest.raises(WorkerLost):
            job.wait(WAIT)
        (dead,) = idle.client.dead()
        assert (dead.job_id, dead.code, dead.attempts) == (job.id, "worker_lost", 1)
        assert [death.signal for death in dead.deaths] == ["SIGKILL"]

        said = subprocess.run(
            [sys.executable, "-m", "medgemma_cli", "requeue", "--all"],
            capture_output=True,
            text=True,
            env=dict(os.environ),
            timeout=60,
            check=True,
        )
        assert said.stdout == f"{job.id} queued\n1 queued again\n"
        assert job.wait(WAIT).answer == ANSWER
        assert worker.starts(job) == 2
    assert list(idle.client.dead()) == []
    assert len(idle.ledger.store.keys(job_prefix("local", job.id) + "history/")) == 1
