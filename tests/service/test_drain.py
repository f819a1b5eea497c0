"""Workers that are taken out, in order: what they have they finish, and what comes is another's."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medgemma_cli.main import app
from medgemma_tasks.layout import jobs_prefix
from medgemma_tasks.models import WorkerHealth, WorkerState
from medgemma_tasks.queue import make_app, publish, queue_names
from medgemma_tasks.workers import say
from tests.service.harness import Service, WorkerProcess, together, until
from tests.service.test_health import Supervisor, becomes, said
from tests.stub_engine import ANSWER, StubEngine

WAIT = 30.0
SHORT = {"MEDGEMMA_VISIBILITY_TIMEOUT": "8"}


def drain(*arguments: str) -> tuple[int, str]:
    """The command: its exit status, and what it printed."""
    done = CliRunner().invoke(app, ["drain", *arguments])
    return done.exit_code, done.output


def name_of(service: Service, worker: WorkerProcess) -> str:
    until(lambda: worker.pid in said(service), WAIT, lambda: worker.log)
    return said(service)[worker.pid].name


def empty(service: Service, worker: WorkerProcess) -> bool:
    return worker.pid in said(service) and said(service)[worker.pid].drained


def results(service: Service) -> int:
    """How many attempts left artifacts: one for each job that was committed once."""
    keys = service.ledger.store.keys(jobs_prefix("local"))
    return len({tuple(key.split("/")[2:4]) for key in keys if key.endswith("relevancy.npz")})


def test_one_that_drains_finishes_its_job_and_the_other_takes_all_that_comes(
    idle: Service, tmp_path: Path
) -> None:
    one, other = WorkerProcess(tmp_path, "one", **SHORT), WorkerProcess(tmp_path, "other", **SHORT)
    with together(one, other):
        held = idle.ask("gate")
        idle.running(held)
        until(lambda: one.starts(held), WAIT)
        out, stays = (one, other) if one.holds(held) else (other, one)
        becomes(idle, stays, WorkerState.READY)
        name = name_of(idle, out)
        assert drain(name) == (0, f"{name} takes no further message\n")
        assert becomes(idle, out, WorkerState.DRAINING).job is not None
        for number in range(4):
            job = idle.ask(f"Meanwhile {number}?")
            assert job.wait(WAIT).answer == ANSWER
            assert stays.holds(job)
        status, printed = drain(name, "--wait", "0.1")
        assert (status, "still hold something" in printed) == (1, True)
        out.gate.touch()
        assert drain(name, "--wait", str(WAIT)) == (
            0,
            f"{name} takes no further message\n{name} holds nothing\n",
        )
        assert held.wait(1).record.attempt == 1
        # Told to take them again it does, and is alone with that once the other is taken out.
        assert drain("--undo", name)[0] == 0
        becomes(idle, out, WorkerState.READY)
        status, printed = drain(name_of(idle, stays), "--wait", str(WAIT))
        assert status == 0, printed
        assert "No other worker" not in printed
        last = idle.ask("Afterwards?")
        assert last.wait(WAIT).answer == ANSWER
        assert out.holds(last)
        assert results(idle) == 6


def test_a_shard_is_finished_and_nothing_is_taken_whatever_becomes_of_child_and_connection(
    idle: Service, tmp_path: Path
) -> None:
    idle.ledger.publish_model(StubEngine().served)
    shard = [idle.ask(prompt) for prompt in ("gate", "sleep 0.5 second", "Third?")]
    idle.redis.flushdb()
    queue = make_app(idle.settings)
    publish(queue, idle.settings, "phantom", [job.id for job in shard], batch=True)
    with WorkerProcess(tmp_path, **SHORT) as worker:
        idle.running(shard[0])
        status, printed = drain("--all")
        assert (status, "No other worker of phantom is ready" in printed) == (0, True)
        becomes(idle, worker, WorkerState.DRAINING)
        waits = idle.ask("Would it be a guest?")
        worker.gate.touch()
        for job in shard:
            assert job.wait(WAIT).record.attempt == 1
        until(lambda: empty(idle, worker), WAIT)
        child = worker.child_of(shard[-1])
        # A new child loads, and all connections are cut; Redis forgets the order.
        os.kill(child, signal.SIGKILL)
        idle.redis.client_kill_filter(_type="normal", skipme=True)
        idle.redis.delete(*idle.redis.keys("medgemma:order:*"))
        until(lambda: worker.loads == 2 and "Connection to broker lost" in worker.log, WAIT)
        until(lambda: idle.redis.keys("medgemma:order:*"), WAIT)
        assert becomes(idle, worker, WorkerState.DRAINING).job is None
        until(lambda: empty(idle, worker), WAIT)
        assert idle.redis.llen(queue_names("phantom")[0]) == 1
        assert drain("--undo", "--all")[0] == 0
        assert waits.wait(WAIT).answer == ANSWER
        assert worker.starts(waits) == 1


def test_a_child_that_is_killed_meanwhile_gives_its_job_to_another(
    idle: Service, tmp_path: Path
) -> None:
    one, other = WorkerProcess(tmp_path, "one", **SHORT), WorkerProcess(tmp_path, "other", **SHORT)
    with together(one, other):
        job = idle.ask("gate once")
        idle.running(job)
        until(lambda: one.starts(job), WAIT)
        out, stays = (one, other) if one.holds(job) else (other, one)
        becomes(idle, stays, WorkerState.READY)
        drain(name_of(idle, out))
        becomes(idle, out, WorkerState.DRAINING)
        os.kill(out.child_of(job), signal.SIGKILL)
        assert job.wait(WAIT).record.attempt == 2
        assert stays.holds(job)
        until(lambda: empty(idle, out), WAIT)


def test_that_redis_forgot_a_worker_does_not_mean_that_it_holds_nothing(
    idle: Service, tmp_path: Path
) -> None:
    with WorkerProcess(tmp_path, **SHORT) as worker, ThreadPoolExecutor() as pool:
        held = idle.ask("gate")
        idle.running(held)
        waiting = pool.submit(drain, name_of(idle, worker), "--wait", str(WAIT))
        becomes(idle, worker, WorkerState.DRAINING)
        idle.redis.flushdb()
        becomes(idle, worker, WorkerState.DRAINING)
        assert not waiting.done()
        worker.gate.touch()
        assert waiting.result()[0] == 0
        assert held.status().state == "succeeded"


def test_one_that_died_counts_as_empty_once_another_may_have_what_it_held(
    idle: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    dead = WorkerHealth(
        name="cpu@here",
        host="here",
        model="phantom",
        device="cpu",
        pid=1,
        state=WorkerState.BUSY,
        since=now,
        started_at=now,
        post="post",
    )
    monkeypatch.setenv("MEDGEMMA_VISIBILITY_TIMEOUT", "2")
    with idle.live.connected() as redis:
        say(redis, dead, 4)
    status, printed = drain("cpu@here", "--wait", str(WAIT))
    assert (status, "cpu@here holds nothing" in printed) == (0, True)


def test_what_kubernetes_does_before_it_stops_a_pod_loses_and_doubles_nothing(
    idle: Service, tmp_path: Path
) -> None:
    """``drain --here --wait``, then SIGTERM; and the next of that name is not born drained."""

    def of_cpu() -> WorkerHealth | None:
        return next((worker for worker in said(idle).values() if "cpu@" in worker.name), None)

    def becomes_so(state: WorkerState, log: WorkerProcess) -> WorkerHealth:
        found: list[WorkerHealth] = []

        def so() -> bool:
            found[:] = filter(None, [of_cpu()])
            return bool(found) and found[0].state is state

        until(so, WAIT, lambda: log.log)
        return found[0]

    idle.ledger.publish_model(StubEngine().served)
    with Supervisor(tmp_path, "first").spawned() as first, ThreadPoolExecutor() as pool:
        jobs = [idle.ask("gate"), *(idle.ask(f"Waiting {number}?") for number in range(3))]
        idle.running(jobs[0])
        becomes_so(WorkerState.BUSY, first)
        waiting = pool.submit(drain, "--here", "--wait", str(WAIT))
        becomes_so(WorkerState.DRAINING, first)
        first.gate.touch()
        status, printed = waiting.result()
        assert (status, "holds nothing" in printed) == (0, True)
        assert jobs[0].status().state == "succeeded"
        assert idle.redis.llen(queue_names("phantom")[0]) == 3
        # Killed as a whole, it is started again by its supervisor, and is out as before.
        drained = becomes_so(WorkerState.DRAINING, first)
        os.killpg(drained.pid, signal.SIGKILL)
        until(lambda: (w := of_cpu()) is not None and w.pid != drained.pid, WAIT)
        becomes_so(WorkerState.DRAINING, first)
        first.terminate()
        assert first.wait(WAIT) == 0
    assert idle.redis.llen(queue_names("phantom")[0]) == 3
    with Supervisor(tmp_path, "second").spawned() as second:
        for job in jobs:
            assert job.wait(WAIT).record.attempt == 1
            assert second.starts(job) == 1
        assert of_cpu() is None or becomes_so(WorkerState.READY, second)
    assert results(idle) == 4


@pytest.mark.parametrize("arguments", [(), ("--all", "--here"), ("--undo", "--all", "--wait", "1")])
def test_what_cannot_be_meant_is_wrong_usage(idle: Service, arguments: tuple[str, ...]) -> None:
    assert drain(*arguments)[0] == 2


def test_without_a_worker_nothing_is_drained(idle: Service) -> None:
    assert drain("--here", "--wait", "5") == (0, "There is no such worker.\n")
