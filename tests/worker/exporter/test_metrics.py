"""What the fleet's exporter tells of queues and workers that were put into Redis by hand."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import fakeredis
import pytest

from medgemma_tasks import dropped, in_hand, workers
from medgemma_tasks.errors import BrokerUnreachable, StoreUnreachable
from medgemma_tasks.in_hand import UNACKED
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.models import WorkerHealth, WorkerState
from medgemma_tasks.queue import queue_names
from medgemma_tasks.settings import Settings
from medgemma_worker.exporter.looking import Looker
from medgemma_worker.exporter.metrics import Fleet
from tests.parts import request_for
from tests.stub_engine import StubEngine

INTERACTIVE, BATCH = queue_names("phantom")


@pytest.fixture
def looker(
    settings: Settings,
    ledger: Ledger,
    redis_fake: fakeredis.FakeRedis,
    monkeypatch: pytest.MonkeyPatch,
) -> Looker:
    monkeypatch.setattr("medgemma_tasks.connection.connect", lambda _: redis_fake)
    looker = Looker(settings, ["named/by-hand"])
    looker._store = ledger.store
    return looker


def other(number: int) -> str:
    return f"{number:032x}"


def message(jobs: Iterable[str]) -> str:
    body = [[{"schema": 1, "tenant": "local", "jobs": list(jobs)}], {}, {}]
    return json.dumps({"body": base64.b64encode(json.dumps(body).encode()).decode()})


def delivered(queue: str, jobs: Iterable[str]) -> str:
    return json.dumps([json.loads(message(jobs)), queue, queue])


def say(redis: fakeredis.FakeRedis, name: str, state: WorkerState) -> None:
    now = datetime.now(UTC)
    health = WorkerHealth(
        name=name,
        host="here",
        model="phantom",
        device="cpu",
        pid=1,
        state=state,
        since=now,
        started_at=now,
    )
    workers.say(redis, health, 60)


def scraped(fleet: Fleet) -> dict[tuple[str, ...], float]:
    """The values, by the names of the samples and of their labels' values."""
    return {
        (sample.name.removeprefix("medgemma_"), *sample.labels.values()): sample.value
        for metric in fleet.collect()
        for sample in metric.samples
    }


def test_a_model_that_has_nothing_but_a_name_has_all_its_series_at_zero(looker: Looker) -> None:
    found = scraped(Fleet(looker))
    model = "named/by-hand"
    assert found["exporter_up",] == found["exporter_store_up",] == 1
    assert found["pending_jobs", model] == found["running_jobs", model] == 0
    for queue in ("interactive", "batch"):
        assert found["queue_jobs", model, queue] == found["queue_oldest_seconds", model, queue] == 0
    assert {key[2] for key in found if key[:2] == ("workers", model)} == set(WorkerState)
    assert found["dropped_messages_total", queue_names(model)[1]] == 0


def test_a_model_that_is_served_or_has_a_worker_is_known(
    looker: Looker, ledger: Ledger, redis_fake: fakeredis.FakeRedis
) -> None:
    ledger.publish_model(StubEngine("served").served)
    say(redis_fake, "gpu-0@here", WorkerState.READY)
    say(redis_fake, "gpu-1@here", WorkerState.SETUP_FAILED)
    found = scraped(Fleet(looker))
    assert found["pending_jobs", "served"] == found["pending_jobs", "phantom"] == 0
    assert found["workers", "phantom", "ready"] == found["workers", "phantom", "setup failed"] == 1
    assert found["workers", "phantom", "busy"] == found["workers", "served", "ready"] == 0


def test_a_job_that_is_seen_at_several_places_is_counted_once(
    looker: Looker, redis_fake: fakeredis.FakeRedis
) -> None:
    redis_fake.lpush(INTERACTIVE, message([other(1)]), "no message of ours")
    redis_fake.lpush(BATCH, message(map(other, range(10, 15))), message([other(2)]))
    redis_fake.hset(UNACKED, "a-tag", delivered(BATCH, [other(3), other(4)]))
    # It says what it holds; of one that is on its queue again it does not know that.
    in_hand.tell(redis_fake, "phantom:gpu-0@here", [other(3), other(4), other(2)], 60)
    in_hand.tell(redis_fake, "another:gpu-0@here", [other(5)], 60)
    found = scraped(Fleet(looker))
    assert found["queue_jobs", "phantom", "interactive"] == 1
    assert found["queue_jobs", "phantom", "batch"] == 6
    assert found["running_jobs", "phantom"] == 3
    assert found["pending_jobs", "phantom"] == 9
    assert found["pending_jobs", "another"] == 1


def test_the_age_is_that_of_the_job_that_is_next_and_is_asked_for_once(
    looker: Looker,
    ledger: Ledger,
    redis_fake: fakeredis.FakeRedis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request = request_for().model_copy(
        update={"submitted_at": datetime.now(UTC) - timedelta(seconds=90)}
    )
    ledger.put_request(request)
    redis_fake.lpush(INTERACTIVE, message([request.job_id]), message([other(1)]))
    found = scraped(Fleet(looker))
    assert 90 <= found["queue_oldest_seconds", "phantom", "interactive"] < 120
    assert found["queue_oldest_seconds", "phantom", "batch"] == 0
    monkeypatch.setattr(Ledger, "request", None)
    assert 90 <= scraped(Fleet(looker))["queue_oldest_seconds", "phantom", "interactive"] < 120


def test_what_was_dropped_is_told_by_place_and_no_text_of_anybodys_becomes_a_label(
    looker: Looker, redis_fake: fakeredis.FakeRedis
) -> None:
    for place in (INTERACTIVE, INTERACTIVE, dropped.NO_REQUEST, "canary"):
        dropped.count(redis_fake, place)
    redis_fake.lpush(INTERACTIVE, "x")
    redis_fake.lpush("medgemma.Name of a patient, canary.batch", "x")
    in_hand.tell(redis_fake, "canary\n:x", [other(1)], 60)
    found = scraped(Fleet(looker))
    assert found["dropped_messages_total", INTERACTIVE] == 2
    assert found["dropped_messages_total", dropped.NO_REQUEST] == 1
    assert "canary" not in str(found)


def test_while_redis_is_away_nothing_is_told_but_that(
    looker: Looker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("medgemma_worker.exporter.metrics.PART", 0.0)
    fleet = Fleet(looker)
    assert scraped(fleet)["exporter_up",] == 1
    with monkeypatch.context() as patch:
        for error in (BrokerUnreachable("away"), ValueError("canary")):

            def fail(self: Looker, error: Exception = error) -> Any:
                raise error

            patch.setattr(Looker, "look", fail)
            assert scraped(fleet) == {("exporter_up",): 0, ("exporter_store_up",): 0}
    assert [record.message for record in caplog.records] == [
        "the fleet cannot be seen (broker_unreachable)"
    ]
    assert scraped(fleet)["pending_jobs", "named/by-hand"] == 0


def test_while_the_store_is_away_only_ages_are_missing(
    looker: Looker, redis_fake: fakeredis.FakeRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis_fake.lpush(INTERACTIVE, message([other(1)]))

    def away(self: Ledger) -> list[str]:
        raise StoreUnreachable("away")

    monkeypatch.setattr(Ledger, "served_models", away)
    found = scraped(Fleet(looker))
    assert (found["exporter_up",], found["exporter_store_up",]) == (1, 0)
    assert found["pending_jobs", "phantom"] == 1
    assert ("queue_oldest_seconds", "phantom", "interactive") not in found
    assert found["queue_oldest_seconds", "phantom", "batch"] == 0


def test_a_look_that_took_long_holds_for_longer(
    looker: Looker, redis_fake: fakeredis.FakeRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medgemma_worker.exporter.metrics.PART", 1e9)
    fleet = Fleet(looker)
    scraped(fleet)
    redis_fake.lpush(INTERACTIVE, message([other(1)]))
    assert ("pending_jobs", "phantom") not in scraped(fleet)


def test_an_exporter_imports_no_torch() -> None:
    program = (
        "import sys, medgemma_worker.exporter.run\n"
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
