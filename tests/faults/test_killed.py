"""What is killed: a child, a whole worker, one that loads long, one that hangs."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from medgemma_tasks.errors import WorkerLost
from medgemma_tasks.models import State
from tests.faults.scene import Scene
from tests.service.harness import together, until
from tests.service.test_health import Supervisor
from tests.stub_engine import ANSWER

WAIT = 30.0
SLACK = 20.0
"""Seconds that a busy machine may add to a bound."""


def test_a_job_whose_child_is_killed_starts_again_in_seconds_and_commits_once(scene: Scene) -> None:
    """Fault 1: a child killed in mid-job; started again within 10 s."""
    with scene.worker as worker:
        job = scene.ask("sleep 60 once")
        scene.running(job)
        os.kill(worker.child_of(job), signal.SIGKILL)
        until(lambda: worker.starts(job) == 2, 10.0, lambda: worker.log)
        assert job.wait(WAIT).record.attempt == 2
    scene.settle([job], starts=2)


def test_a_job_whose_child_is_killed_while_it_stores_commits_once_and_leaves_nothing_else(
    scene: Scene, tmp_path: Path
) -> None:
    """As the kernel does where memory runs out: under a supervisor, between the first artifact and
    the mark. Its death is known by its stage, and another attempt's artifacts are all there are."""
    with Supervisor(tmp_path) as worker:
        job = scene.ask("What is there?")
        scene.s3.slow(3.0, lambda method, path: method == "PUT" and path.endswith("-0.png"))
        until(lambda: scene.artifacts_of(job), WAIT, lambda: worker.log)
        os.kill(worker.child_of(job), signal.SIGKILL)
        scene.s3.restore()
        assert job.wait(WAIT).record.attempt == 2
        assert f"job {job.id}: the process died over attempt 1 (SIGKILL)" in worker.log
    scene.settle([job], starts=2)


def test_a_job_whose_whole_worker_is_killed_is_started_by_another(scene: Scene) -> None:
    """Fault 2: a whole process group killed; started elsewhere within the visibility timeout and
    two sweeps, which the transport makes each second."""
    short = {"MEDGEMMA_VISIBILITY_TIMEOUT": "2"}
    workers = [scene.another(name, **short) for name in ("one", "two")]
    with together(*workers):
        job = scene.ask("sleep 60 once")
        scene.running(job)
        first, second = sorted(workers, key=lambda worker: worker.holds(job), reverse=True)
        first.signal_all(signal.SIGKILL)
        until(lambda: second.starts(job) == 2, 2 + 2 * 1 + SLACK, lambda: second.log)
        assert second.holds(job)
        assert job.wait(WAIT).answer == ANSWER
    scene.settle([job], starts=2)


def test_a_child_that_loads_for_ten_seconds_is_loaded_once_after_a_crash(scene: Scene) -> None:
    """Fault 8: a child's crash with a load of 10 s; one reload, no loop."""
    settings = {"MEDGEMMA_VISIBILITY_TIMEOUT": "4", "STUB_RELOAD_SECONDS": "10"}
    with scene.another(**settings) as worker:
        job = scene.ask("die once")
        assert job.wait(WAIT).record.attempt == 2
        assert scene.ask("Alive after that?").wait(WAIT).answer == ANSWER
        assert worker.loads == 2
    scene.settle([job], starts=2)


def test_a_child_that_hangs_is_killed_at_the_hard_limit(scene: Scene) -> None:
    limits = {"MEDGEMMA_SOFT_TIME_LIMIT": "3", "MEDGEMMA_HARD_TIME_LIMIT": "4"}
    with scene.another(MEDGEMMA_MAX_ATTEMPTS="1", **limits):
        job = scene.ask("deaf hang 60")
        with pytest.raises(WorkerLost):
            job.wait(WAIT)
        assert scene.ask("Alive after that?").wait(WAIT).answer == ANSWER
    scene.settle([job], state=State.FAILED)
