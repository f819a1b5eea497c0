"""The lease: what a living worker holds is nobody else's, however long it takes."""

from __future__ import annotations

from medgemma_tasks.queue import TASK
from tests.faults.scene import Scene
from tests.service.harness import together, until
from tests.stub_engine import ANSWER, StubEngine

WAIT = 30.0
SHORT = {"MEDGEMMA_VISIBILITY_TIMEOUT": "2"}


def test_a_job_of_three_visibility_timeouts_starts_once(scene: Scene) -> None:
    """Fault 3: the lease is renewed, so beside an idle worker there is exactly one start, and the
    message is nobody else's even to look at."""
    workers = [scene.another(name, **SHORT) for name in ("one", "two")]
    with together(*workers):
        job = scene.ask("sleep 6.5")
        assert job.wait(WAIT).answer == ANSWER
    assert sum(worker.log.count("received") for worker in workers) == 1
    scene.settle([job])


def test_a_message_is_leased_while_the_child_still_loads(scene: Scene) -> None:
    """Fault 3, of a worker that took its message before its model was there."""
    scene.straight.publish_model(StubEngine().served)
    job = scene.ask("Who waits for whom?")
    with scene.another("slow", STUB_LOAD_SECONDS="5", **SHORT).spawned() as slow:
        until(lambda: TASK in slow.log and "received" in slow.log, WAIT, lambda: slow.log)
        with scene.another("quick", **SHORT) as quick:
            assert job.wait(WAIT).answer == ANSWER
            assert "received" not in quick.log
    scene.settle([job])
