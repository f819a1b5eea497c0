"""What is stopped (SIGSTOP): it looks dead to all others, and some day goes on."""

from __future__ import annotations

import os
import signal
import time

import pytest

from medgemma_client.job import Job
from tests.faults.scene import Scene
from tests.service.harness import WorkerProcess, together, until
from tests.stub_engine import ANSWER

WAIT = 30.0
SHORT = {"MEDGEMMA_VISIBILITY_TIMEOUT": "2"}
"""So the reconciler sweeps every 4 s at most, and looks for 1.5 s."""


@pytest.mark.parametrize("conditional", [True, False], ids=["conditional puts", "a lock in Redis"])
def test_the_late_commit_of_a_worker_that_was_stopped_is_refused(scene: Scene) -> None:
    """Fault 4: stopped past the timeout, then continued; the result's bytes do not change."""
    workers = [scene.another(name, **SHORT) for name in ("one", "two")]
    with together(*workers):
        job = scene.ask("sleep 3 once")
        scene.running(job)
        stopped, other = sorted(workers, key=lambda worker: worker.holds(job), reverse=True)
        stopped.signal_all(signal.SIGSTOP)
        scene.finish([job], WAIT, lambda: other.log)
        mark = scene.mark(job)
        assert other.holds(job)
        stopped.signal_all(signal.SIGCONT)
        late = f"job {job.id}: another attempt was first"
        until(lambda: late in stopped.log, WAIT, lambda: stopped.log)
        other.signal_all(signal.SIGKILL)
        assert scene.ask("Alive after that?").wait(WAIT).answer == ANSWER
        assert scene.mark(job) == mark
    scene.settle([job], starts=2)


def test_a_message_that_a_stopped_worker_swallowed_is_put_back(scene: Scene) -> None:
    """Fault 11: an idle worker, stopped, swallows a message and is killed; two sweeps."""
    with scene.another("first", **SHORT) as first:
        tries = (swallowed(scene, first, f"Swallowed {number}?") for number in range(10))
        job = next(job for job in tries if job is not None)
    assert scene.messages() == 0
    with scene.another("second", **SHORT) as second:
        assert job.wait(WAIT).answer == ANSWER
        assert f"job {job.id}: was lost" in second.log
    scene.settle([job])


def swallowed(scene: Scene, worker: WorkerProcess, question: str) -> Job | None:
    """A job whose message went to a stopped worker; None where it was not waiting just then."""
    os.kill(worker.pid, signal.SIGSTOP)
    job = scene.ask(question)
    time.sleep(0.1)
    if not scene.messages():
        return job
    os.kill(worker.pid, signal.SIGCONT)
    job.wait(WAIT)
    return None
