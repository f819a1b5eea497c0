"""An interactive job in the middle of a batch shard, on real Redis, S3 and a worker process."""

from __future__ import annotations

import os
import signal

from medgemma_tasks.models import State
from medgemma_tasks.queue import make_app, publish
from tests.service.harness import Service, until
from tests.stub_engine import StubEngine

WAIT = 30.0


def shard_of(idle: Service, *prompts: str) -> list[str]:
    jobs = [idle.ask(prompt).id for prompt in prompts]
    idle.redis.flushall()
    publish(make_app(idle.settings), idle.settings, "phantom", jobs, batch=True)
    return jobs


def ended(idle: Service) -> list[str]:
    """The jobs that the engine was through with, in order."""
    path = idle.worker.ledger_path
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.split()[1] for line in lines if line.startswith("end ")]


def test_an_interactive_job_is_done_before_the_shard_in_whose_middle_it_came(
    idle: Service,
) -> None:
    idle.ledger.publish_model(StubEngine().served)
    jobs = shard_of(idle, *(f"sleep 1 film {number}" for number in range(6)))
    with idle.worker:
        until(lambda: bool(ended(idle)), WAIT)
        guest = idle.ask("Now?")
        guest.wait(WAIT)
        assert ended(idle).index(guest.id) < 5
        for job in jobs:
            until(lambda job=job: idle.ledger.finished(job), WAIT)
        assert all(idle.worker.starts(idle.client.job(job)) == 1 for job in jobs)
        until(lambda: not idle.redis.exists("unacked"), WAIT)


def test_a_guest_over_which_the_process_dies_is_done_all_the_same(idle: Service) -> None:
    idle.ledger.publish_model(StubEngine().served)
    jobs = shard_of(idle, *(f"sleep 1 film {number}" for number in range(4)))
    with idle.worker:
        until(lambda: bool(ended(idle)), WAIT)
        guest = idle.ask("sleep 2 now once")
        until(lambda: idle.worker.starts(guest) == 1, WAIT)
        os.kill(idle.worker.child_of(guest), signal.SIGKILL)
        assert guest.wait(WAIT).record.attempt == 2
        for job in jobs:
            until(lambda job=job: idle.ledger.finished(job), WAIT)
        states = {idle.client.job(job).status().state for job in jobs}
        assert states == {State.SUCCEEDED}
