"""exporter, as an operator starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from medgemma_client import Client
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.settings import Settings
from medgemma_tasks.store import Store
from tests.parts import picture
from tests.scraping import Scraped, asked, told
from tests.service.harness import until
from tests.stub_engine import StubEngine
from tests.worker.supervised import free_port

WAIT = 30.0


@contextmanager
def exporter(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "medgemma_cli", "exporter", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_it_tells_what_waits_where_no_worker_is_and_ends_when_it_is_told_to(
    stack_settings: Settings,
) -> None:
    Ledger(Store(stack_settings), LiveState(stack_settings)).publish_model(StubEngine().served)
    for number in range(3):
        Client(stack_settings).submit(picture(), f"Question {number}?")
    port = free_port()
    with exporter("--port", str(port), "--model", "google/medgemma-1.5-4b-it") as process:
        until(lambda: asked(port, "/healthz")[0] == 200, WAIT)
        found = Scraped(port)
        assert found.value("medgemma_exporter_up") == 1
        assert found.value("medgemma_queue_jobs", model="phantom", queue="interactive") == 3
        assert found.value("medgemma_pending_jobs", model="phantom") == 3
        age = found.value("medgemma_queue_oldest_seconds", model="phantom", queue="interactive")
        assert age is not None
        assert 0 < age < WAIT
        scaled_to_zero = found.value("medgemma_pending_jobs", model="google/medgemma-1.5-4b-it")
        assert scaled_to_zero == 0
        process.terminate()
        assert process.wait(WAIT) == 0


def test_while_redis_is_away_it_lives_and_says_so() -> None:
    port = free_port()
    away = {"MEDGEMMA_BROKER_URL": "redis://:secret@127.0.0.1:9/0", "MEDGEMMA_LOG_FORMAT": "json"}
    with exporter("--port", str(port), **away) as process:
        until(lambda: asked(port, "/healthz")[0] == 200, WAIT)
        assert told(port, "/healthz") == (200, {"status": "ok"})
        for _ in range(2):
            found = Scraped(port)
            assert found.families.keys() == {"medgemma_exporter_up", "medgemma_exporter_store_up"}
            assert found.value("medgemma_exporter_up") == 0
        process.terminate()
        _, logged = process.communicate(timeout=WAIT)
    (line,) = [json.loads(line) for line in logged.splitlines()]
    assert line["message"] == "the fleet cannot be seen (broker_unreachable)"
    assert "secret" not in logged


def test_a_port_that_is_taken_and_a_name_that_is_none_are_refused(
    stack_settings: Settings,
) -> None:
    port = free_port()
    with exporter("--port", str(port)):
        until(lambda: asked(port, "/healthz")[0] == 200, WAIT)
        with exporter("--port", str(port)) as second:
            assert second.wait(WAIT) == 1
            assert second.stderr is not None
            assert "--host or --port" in second.stderr.read()
    with exporter("--model", "no name") as third:
        assert third.wait(WAIT) == 1
