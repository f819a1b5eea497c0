"""What goes wrong around a job: each test breaks one thing of a service of its own."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from medgemma_cli.embedded import EmbeddedS3
from medgemma_client.client import Client
from medgemma_tasks.errors import BrokerUnreachable, StoreUnreachable, WorkerLost
from medgemma_tasks.layout import job_prefix, result_key
from medgemma_tasks.models import State
from medgemma_tasks.queue import TASK, make_app
from medgemma_tasks.settings import Settings
from tests.parts import picture
from tests.service.harness import Service, WorkerProcess, until
from tests.stub_engine import ANSWER, StubEngine

WAIT = 30.0
SOON = 5.0


def test_a_killed_child_is_replaced_and_its_job_runs_again(idle: Service) -> None:
    with idle.worker:
        job = idle.ask("sleep 0.2 die once")
        result = job.wait(WAIT)
        assert (result.answer, result.record.attempt) == (ANSWER, 2)
        assert idle.worker.starts(job) == 2
        under = idle.ledger.store.keys(job_prefix("local", job.id))
        assert len(under) == 2 + len(result.record.artifacts)


def test_a_job_that_kills_every_child_fails_after_its_attempts(
    idle: Service, tmp_path: Path
) -> None:
    with WorkerProcess(tmp_path, MEDGEMMA_MAX_ATTEMPTS="2"):
        job = idle.ask("die")
        with pytest.raises(WorkerLost):
            job.wait(WAIT)
        assert idle.worker.starts(job) == 2
        assert idle.ask("Alive after that?").wait(WAIT).answer == ANSWER


def test_a_job_of_three_visibility_timeouts_starts_once(idle: Service, tmp_path: Path) -> None:
    short = {"MEDGEMMA_VISIBILITY_TIMEOUT": "2"}
    first, second = (WorkerProcess(tmp_path, name, **short) for name in ("first", "second"))
    with first, second:
        job = idle.ask("sleep 6.5")
        assert job.wait(WAIT).answer == ANSWER
        assert first.starts(job) == 1


def test_a_message_is_leased_while_the_child_still_loads(idle: Service, tmp_path: Path) -> None:
    short = {"MEDGEMMA_VISIBILITY_TIMEOUT": "2"}
    idle.ledger.publish_model(StubEngine().served)
    job = idle.ask("Who waits for whom?")
    with WorkerProcess(tmp_path, "slow", STUB_LOAD_SECONDS="4", **short).spawned() as slow:
        until(lambda: TASK in slow.log and "received" in slow.log, SOON)
        with WorkerProcess(tmp_path, "quick", **short) as quick:
            assert job.wait(WAIT).answer == ANSWER
            assert "received" not in quick.log
    assert slow.starts(job) == 1


def test_a_hung_child_is_killed_at_the_hard_limit(idle: Service, tmp_path: Path) -> None:
    limits = {"MEDGEMMA_SOFT_TIME_LIMIT": "1", "MEDGEMMA_HARD_TIME_LIMIT": "2"}
    with WorkerProcess(tmp_path, MEDGEMMA_MAX_ATTEMPTS="1", **limits):
        job = idle.ask("deaf hang 60")
        with pytest.raises(WorkerLost):
            job.wait(WAIT)
        assert idle.ask("Alive after that?").wait(WAIT).answer == ANSWER


@pytest.fixture
def s3_down(s3_server: EmbeddedS3) -> Iterator[EmbeddedS3]:
    yield s3_server
    s3_server.start()


def test_a_store_that_is_away_at_the_commit_is_waited_for(
    idle: Service, s3_down: EmbeddedS3
) -> None:
    with idle.worker:
        job = idle.ask("sleep 1.5")
        idle.running(job)
        s3_down.kill()
        until(lambda: "waiting for a part that is away" in idle.worker.log, WAIT)
        s3_down.start()
        result = job.wait(WAIT)
        assert (result.answer, result.record.attempt) == (ANSWER, 1)
        assert idle.worker.starts(job) == 1


def test_a_job_whose_store_is_away_goes_back_to_the_queue(
    idle: Service, s3_down: EmbeddedS3
) -> None:
    with idle.worker:
        first = idle.ask("sleep 1")
        second = idle.ask("Next?")
        idle.running(first)
        s3_down.kill()
        time.sleep(2.5)
        s3_down.start()
        assert second.wait(WAIT).answer == ANSWER
        assert first.wait(WAIT).record.attempt == 1


def test_a_worker_that_is_told_to_stop_finishes_its_job(idle: Service) -> None:
    with idle.worker:
        job = idle.ask("sleep 1")
        idle.running(job)
        idle.worker.terminate()
        assert idle.worker.wait(WAIT) == 0
        assert job.result().record.attempt == 1


def test_a_worker_past_its_grace_gives_its_job_back(idle: Service, tmp_path: Path) -> None:
    with WorkerProcess(tmp_path, "first", MEDGEMMA_SHUTDOWN_GRACE="1") as first:
        job = idle.ask("sleep 2.5")
        idle.running(job)
        first.terminate()
        first.wait(WAIT)
    assert job.status().state is not State.FAILED
    with WorkerProcess(tmp_path, "second"):
        assert job.wait(WAIT).answer == ANSWER


def test_a_worker_that_cannot_load_ends_and_says_why(idle: Service, tmp_path: Path) -> None:
    with WorkerProcess(tmp_path, STUB_LOAD="fail").spawned() as worker:
        assert worker.wait(WAIT) != 0
        assert "model_load_failed" in worker.log


def test_a_shard_runs_all_its_jobs_whatever_one_of_them_does(idle: Service) -> None:
    from medgemma_tasks.queue import publish

    with idle.worker:
        jobs = [idle.ask(prompt) for prompt in ("crash 1", "Two?", "memory 3", "Four?")]
        for job in jobs:
            until(lambda job=job: job.status().state.terminal, WAIT)
            idle.ledger.store.delete(result_key("local", job.id))
        ids = [job.id for job in jobs]
        publish(make_app(idle.settings), idle.settings, "phantom", ids, batch=True)
        for job in jobs:
            until(lambda job=job: job.status().state.terminal, WAIT)
        states = [job.status().state for job in jobs]
        assert states == [State.FAILED, State.SUCCEEDED, State.FAILED, State.SUCCEEDED]


def test_a_result_is_not_hidden_by_redis_being_away(idle: Service) -> None:
    with idle.worker:
        job = idle.ask("Hidden?")
        job.wait(WAIT)
    gone = idle.settings.model_validate(
        {**idle.settings.model_dump(), "broker_url": "redis://127.0.0.1:9/0"}
    )
    client = Client(gone)
    assert client.job(job.id).result().answer == ANSWER
    assert client.job(job.id).wait(1).answer == ANSWER
    assert client.submit(picture(), "Hidden?").result().answer == ANSWER


@pytest.mark.parametrize("kind", ["refuses", "never answers"])
def test_a_client_names_a_part_it_cannot_reach_within_seconds(idle: Service, kind: str) -> None:
    idle.ledger.publish_model(StubEngine().served)
    before = idle.ledger.store.keys("")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if kind == "never answers":
            silent.listen()
        port = silent.getsockname()[1]
        for setting, url, error in (
            ("broker_url", f"redis://u:secret@127.0.0.1:{port}/0", BrokerUnreachable),
            ("s3_endpoint_url", f"http://u:secret@127.0.0.1:{port}", StoreUnreachable),
        ):
            settings = Settings.model_validate(
                {**idle.settings.model_dump(), "connect_timeout": 1.0, setting: url}
            )
            start = time.monotonic()
            with pytest.raises(error) as caught:
                Client(settings).submit(picture(), "Anybody?")
            assert time.monotonic() - start < SOON
            assert f"127.0.0.1:{port}" in caught.value.message
            assert "secret" not in caught.value.message
    assert idle.ledger.store.keys("") == before
