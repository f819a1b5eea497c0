"""What is done to a worker while it drains: it is told to stop, Redis dies and comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medgemma_tasks.models import WorkerHealth, WorkerState
from medgemma_tasks.orders import order
from medgemma_tasks.workers import workers
from tests.faults.scene import Scene
from tests.service.harness import WorkerProcess, until

if TYPE_CHECKING:
    from medgemma_cli.embedded import EmbeddedRedis

WAIT = 30.0
SLACK = 20.0
"""Seconds beyond its grace in which a process ends, on a busy machine."""


def health(scene: Scene, worker: WorkerProcess) -> WorkerHealth | None:
    """What a worker said last."""
    with scene.live.connected() as redis:
        return {one.pid: one for one in workers(redis)}.get(worker.pid)


def told(scene: Scene, worker: WorkerProcess, *, out: bool) -> None:
    """Have a worker drain, or take messages again, and wait until it says that it does."""
    until(lambda: health(scene, worker) is not None, WAIT, lambda: worker.log)
    one = health(scene, worker)
    assert one is not None
    order(scene.redis, one, out=out)
    until(lambda: drains(scene, worker) is out, WAIT, lambda: worker.log)


def drains(scene: Scene, worker: WorkerProcess) -> bool:
    one = health(scene, worker)
    return one is not None and one.state is WorkerState.DRAINING


def test_one_that_is_told_to_stop_amid_a_shard_leaves_the_rest_to_another_uncounted(
    scene: Scene,
) -> None:
    """Its message is another's at once, though the visibility timeout is a minute."""
    with scene.another("first", MEDGEMMA_SHUTDOWN_GRACE="2") as first:
        prompts = ("Soon?", "sleep 60 once", *(f"Number {number}?" for number in range(6)))
        jobs = scene.ask_as_shard(prompts)
        until(lambda: scene.worker.starts(jobs[1]), WAIT, lambda: first.log)
        told(scene, first, out=True)
        first.terminate()
        assert first.wait(2 + SLACK) == 0
        assert scene.messages() == 1
        begun = set(scene.marks())
    assert jobs[1].id not in begun
    with scene.another("second") as second:
        scene.finish(jobs, WAIT, lambda: second.log)
        assert "was split" not in second.log
        assert [job.result().record.attempt for job in jobs] == [1] * len(jobs)
    scene.settle([jobs[1]], starts=2)
    scene.settle([jobs[0], *jobs[2:]], starts=None, at_most=2)


def test_redis_dies_over_one_and_it_finishes_its_shard_and_takes_nothing_else(
    own_redis: EmbeddedRedis, scene: Scene
) -> None:
    """Killed (-9), away for a while, and back; what waits is taken only once it is let in."""
    shard = scene.ask_as_shard(["gate", "sleep 0.2 second", "Third?"])
    with scene.another(MEDGEMMA_VISIBILITY_TIMEOUT="4") as worker:
        scene.running(shard[0])
        told(scene, worker, out=True)
        waits = scene.ask("Would it be taken?")
        own_redis.kill()
        until(lambda: "Connection to broker lost" in worker.log, WAIT, lambda: worker.log)
        own_redis.start()
        scene.open_gate()
        scene.finish(shard, WAIT, lambda: worker.log)

        def emptied() -> bool:
            one = health(scene, worker)
            return one is not None and one.drained

        until(emptied, WAIT, lambda: worker.log)
        assert worker.starts(waits) == 0
        told(scene, worker, out=False)
        scene.finish([waits], WAIT, lambda: worker.log)
        assert worker.loads == 1
    scene.settle([*shard, waits])
