"""What goes wrong before a job is under way, or after; tests/faults has what goes wrong amid it."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from medgemma_client.client import Client
from medgemma_tasks.errors import BrokerUnreachable, StoreUnreachable
from medgemma_tasks.settings import Settings
from tests.parts import picture
from tests.service.harness import Service, WorkerProcess
from tests.stub_engine import ANSWER, StubEngine

WAIT = 30.0
SOON = 30.0
"""Seconds: less than a library that tries again by itself would take."""


def test_a_worker_that_cannot_load_ends_and_says_why(idle: Service, tmp_path: Path) -> None:
    with WorkerProcess(tmp_path, STUB_LOAD="fail").spawned() as worker:
        assert worker.wait(WAIT) != 0
        assert "model_load_failed" in worker.log


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
