"""Who sweeps, and what a part that is away does to it."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import fakeredis
import pytest

from medgemma_tasks import in_hand
from medgemma_tasks.errors import StoreUnreachable
from medgemma_tasks.live import LiveState
from medgemma_tasks.reconcile import Reconciler, Swept
from medgemma_tasks.settings import Settings
from medgemma_worker.board import Board
from medgemma_worker.parent import running
from medgemma_worker.supervisor.reconciler import LOCK, Turn
from tests.parts import JOB, OTHER_JOB


@pytest.fixture
def sweeps(monkeypatch: pytest.MonkeyPatch, redis_fake: fakeredis.FakeRedis) -> list[int]:
    """One for each sweep that began."""
    begun: list[int] = []

    def sweep(self: Reconciler, alive: Any) -> Swept:
        alive()
        begun.append(1)
        return Swept()

    monkeypatch.setattr("medgemma_tasks.connection.connect", lambda _: redis_fake)
    monkeypatch.setattr(Reconciler, "sweep", sweep)
    return begun


def test_of_two_one_sweeps_in_a_visibility_timeout(
    settings: Settings, sweeps: list[int], redis_fake: fakeredis.FakeRedis
) -> None:
    first, second = Turn(settings), Turn(settings)
    for turn in (first, second, first):
        turn.take()
    assert len(sweeps) == 1
    assert 0 < redis_fake.ttl(f"medgemma:lock:{LOCK}") <= settings.visibility_timeout
    redis_fake.delete(f"medgemma:lock:{LOCK}")
    second.take()
    assert len(sweeps) == 2


@pytest.mark.parametrize("error", [StoreUnreachable("gone"), ValueError("canary")])
def test_no_failure_ends_it_or_is_quoted(
    settings: Settings,
    sweeps: list[int],
    redis_fake: fakeredis.FakeRedis,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    def fail(self: Reconciler, alive: Any) -> Swept:
        raise error

    turn = Turn(settings)
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(Reconciler, "sweep", fail)
        turn.take()
    assert ("store_unreachable" in caplog.text) or ("ValueError" in caplog.text)
    assert "canary" not in caplog.text
    redis_fake.delete(f"medgemma:lock:{LOCK}")
    turn.take()
    assert len(sweeps) == 1


def test_a_redis_that_is_away_is_survived(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Turn(Settings.model_validate({"broker_url": "redis://:canary@127.0.0.1:9/0"})).take()
    assert "broker_unreachable" in caplog.text
    assert "canary" not in caplog.text


def test_a_lock_is_extended_by_its_holder_only(live: LiveState) -> None:
    assert live.lock("x", "mine", 10)
    assert live.extend("x", "mine", 60)
    assert not live.extend("x", "another", 60)


def test_a_worker_tells_of_all_jobs_that_it_holds(
    redis_fake: fakeredis.FakeRedis, live: LiveState, monkeypatch: pytest.MonkeyPatch
) -> None:
    def message(*jobs: str) -> SimpleNamespace:
        return SimpleNamespace(payload=[[{"schema": 1, "tenant": "local", "jobs": jobs}], {}, {}])

    reserved = [SimpleNamespace(message=message(JOB))]
    monkeypatch.setattr(running.state, "reserved_requests", reserved)
    channel = SimpleNamespace(
        qos=SimpleNamespace(
            _delivered={
                "tag": message(OTHER_JOB),
                "odd": SimpleNamespace(payload="canary"),
                "acknowledged": message("e" * 32),
            },
            _dirty={"acknowledged"},
        ),
        connection=object(),
        conn_or_acquire=lambda: redis_fake,
    )
    conf = SimpleNamespace(broker_transport_options={"visibility_timeout": 60})
    running.say(
        SimpleNamespace(
            hostname="worker",
            app=SimpleNamespace(conf=conf, live=live, board=Board()),
            task_consumer=SimpleNamespace(channel=channel),
        )
    )
    assert in_hand.look(redis_fake) == {JOB, OTHER_JOB}
    assert redis_fake.keys("*") == ["medgemma:running:phantom:worker"]
