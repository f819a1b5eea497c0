"""What becomes of jobs when Redis dies, loses its memory, or its connections break."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psutil

from tests.faults.proxy import Proxy
from tests.faults.scene import Scene
from tests.service.harness import WorkerProcess, together, until

if TYPE_CHECKING:
    from medgemma_cli.embedded import EmbeddedRedis

WAIT = 60.0
SHORT = {"MEDGEMMA_VISIBILITY_TIMEOUT": "4"}
"""So the reconciler sweeps every 8 s at most, and looks for 3 s."""


def test_redis_is_killed_over_a_hundred_jobs_and_its_worker_goes_on(
    own_redis: EmbeddedRedis, scene: Scene
) -> None:
    """Fault 5: killed (-9, with AOF) with 100 queued and 1 running; 101 commits, and the same
    worker consumes again within 30 s."""
    (running,) = scene.ask_all(["gate"])
    queued = scene.ask_all(f"Number {number}?" for number in range(100))
    with scene.another(**SHORT) as worker:
        scene.running(running)
        own_redis.kill()
        assert not scene.marks()
        time.sleep(1.0)
        own_redis.start()
        scene.open_gate()
        ids = {job.id for job in queued}
        until(lambda: ids & scene.marks().keys(), 30.0, lambda: worker.log)
        scene.finish([running, *queued], WAIT, lambda: worker.log)
        assert psutil.Process(worker.child_of(queued[-1])).ppid() == worker.pid
        assert worker.loads == 1
    scene.settle([running, *queued])


def test_connections_are_reset_again_and_again_and_no_job_is_lost_or_run_twice(
    redis_server: EmbeddedRedis, scene: Scene
) -> None:
    """Fault 6: resets every 2 s for 30 s; none lost, and a second delivery runs no model."""
    jobs, resets = scene.ask_all(["sleep 1"]), []
    with Proxy(redis_server.port) as proxy:
        worker = behind(proxy, scene, redis_server.port)
        with worker:
            for turn in range(15):
                more = scene.ask_all(f"sleep 0.3 of {turn}, {number}" for number in range(4))
                jobs += more
                scene.send(more[:2])
                scene.send(more[2:3])
                time.sleep(1.8)
                resets.append(proxy.reset())
            scene.finish(jobs, WAIT, lambda: worker.log)
            until(lambda: scene.messages() == 0, WAIT, lambda: worker.log)
    assert len(resets) == 15
    assert all(resets)
    assert worker.log.count("Connection to broker lost") >= 10
    assert worker.log.count("has its result already") >= 15
    scene.settle(jobs)


def behind(proxy: Proxy, scene: Scene, port: int) -> WorkerProcess:
    """A worker that reaches Redis through a proxy alone."""
    url = scene.settings.broker_url.get_secret_value()
    return scene.another(MEDGEMMA_BROKER_URL=url.replace(f":{port}/", f":{proxy.port}/"), **SHORT)


def test_redis_loses_its_memory_amid_two_hundred_jobs_and_each_commits_once(scene: Scene) -> None:
    """FLUSHALL in the middle of 200 jobs, workers alive; 200 commits, each once. What is in hand is
    not put back, and the last of the queue is."""
    workers = [scene.another(name, **SHORT) for name in ("one", "two")]

    def log() -> str:
        return "".join(worker.log for worker in workers)

    (held,) = scene.ask_all(["gate"])
    others = scene.ask_all(f"sleep 0.02 of {number}" for number in range(199))
    with together(*workers):
        until(lambda: len(scene.marks()) >= 60, WAIT, log)
        scene.redis.flushall()
        assert len(scene.marks()) <= 150
        scene.finish(others, WAIT, log)
        scene.open_gate()
        scene.finish([held], WAIT, log)
    assert f"job {held.id}: was lost" not in log()
    assert f"job {others[-1].id}: was lost" in log()
    scene.settle([held])
    scene.settle(others, starts=None, at_most=2)
