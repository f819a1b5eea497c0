"""A worker that is told to stop (SIGTERM): it ends within its grace, and no job is the worse."""

from __future__ import annotations

from tests.faults.scene import Scene
from tests.service.harness import until
from tests.stub_engine import ANSWER

WAIT = 30.0
SLACK = 20.0
"""Seconds beyond its grace in which a process ends, on a busy machine."""


def test_a_worker_that_is_told_to_stop_under_load_leaves_all_it_has_to_another(
    scene: Scene,
) -> None:
    """Fault 9: SIGTERM under load, with a job in hand that outlasts the grace; every unfinished
    job commits elsewhere, at once (the visibility timeout is a minute), and none fails."""
    grace = 2.0
    with scene.another("first", MEDGEMMA_SHUTDOWN_GRACE="2") as first:
        long = scene.ask("sleep 60 once")
        scene.running(long)
        jobs = [long, *scene.ask_all(f"sleep 0.1 of {number}" for number in range(12))]
        with scene.another("second") as second:
            until(scene.marks, WAIT, lambda: second.log)
            first.terminate()
            first.wait(grace + SLACK)
            assert f"job {long.id}: succeeded" not in first.log
            scene.finish(jobs, WAIT, lambda: second.log)
            assert second.holds(long)
    scene.settle([long], starts=2)
    scene.settle(jobs[1:])


def test_a_worker_that_is_told_to_stop_finishes_a_job_within_its_grace(scene: Scene) -> None:
    """Fault 9, of what can be finished: it is, and what is queued stays queued."""
    with scene.worker as worker:
        job = scene.ask("gate")
        queued = scene.ask("And then?")
        scene.running(job)
        worker.terminate()
        scene.open_gate()
        assert worker.wait(WAIT) == 0
        assert job.result().record.attempt == 1
    assert scene.messages() == 1
    with scene.another("second"):
        assert queued.wait(WAIT).answer == ANSWER
    scene.settle([job, queued])
