"""A job that kills every process that runs it, and what those beside it have to bear."""

from __future__ import annotations

from medgemma_tasks.models import State
from tests.faults.scene import Scene
from tests.service.harness import until
from tests.stub_engine import ANSWER

WAIT = 60.0


def test_a_poison_job_amid_a_shard_ends_as_worker_lost_and_the_others_succeed(
    scene: Scene,
) -> None:
    """Fault 7: a poison job in a shard of 32; 31 succeed, it fails after 3 attempts with what was
    known of each death, and no bystander is tried more than twice."""
    prompts = [f"Bystander {number}?" for number in range(32)]
    prompts[16] = "sleep 1.5 die"
    jobs = scene.ask_as_shard(prompts)
    poison = jobs.pop(16)
    with scene.worker as worker:
        scene.finish([poison, *jobs], WAIT, lambda: worker.log)
        assert scene.ask("Alive after that?").wait(WAIT).answer == ANSWER
        until(lambda: scene.messages() == 0, WAIT, lambda: worker.log)
    scene.settle(jobs, starts=None, at_most=2)
    order = [worker.started(job)[-1] for job in (*jobs, poison)]
    assert order[-1] == max(order)  # nobody waits for its last attempt
    scene.settle([poison], state=State.FAILED, starts=3)
    record = scene.straight.record(poison.id)
    assert record is not None
    assert record.error is not None
    assert record.error.code == "worker_lost"
    deaths = record.error.details["deaths"]
    assert [death["attempt"] for death in deaths] == [1, 2, 3]
    assert {death["signal"] for death in deaths} == {"SIGKILL"}
    assert all(death["memory_bytes"] for death in deaths), [
        death["memory_bytes"] for death in deaths
    ]
    assert scene.straight.request(poison.id) is not None


def test_a_shard_runs_all_its_jobs_whatever_one_of_them_does(scene: Scene) -> None:
    jobs = scene.ask_as_shard(("crash 1", "Two?", "memory 3", "Four?"))
    with scene.worker as worker:
        scene.finish(jobs, WAIT, lambda: worker.log)
    scene.settle(jobs[::2], state=State.FAILED)
    scene.settle(jobs[1::2])
