"""Who tells clients their places, and what a part that is away does to it."""

from __future__ import annotations

import time

import fakeredis
import pytest

from medgemma_tasks import backlog
from medgemma_tasks.live import LiveState
from medgemma_tasks.settings import Settings
from medgemma_worker.supervisor import places
from medgemma_worker.supervisor.places import telling


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The model of each telling."""
    found: list[str] = []
    monkeypatch.setattr(backlog, "tell_places", lambda redis, model: found.append(model))
    return found


def wait_for(calls: list[str], number: int) -> None:
    deadline = time.monotonic() + 20
    while len(calls) < number:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_while_another_tells_it_does_not(
    settings: Settings,
    redis_fake: fakeredis.FakeRedis,
    told: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries: list[str] = []
    lock = LiveState.lock

    def counted(live: LiveState, name: str, token: str, seconds: int) -> bool:
        tries.append(name)
        return lock(live, name, token, seconds)

    monkeypatch.setattr("medgemma_tasks.connection.connect", lambda _: redis_fake)
    monkeypatch.setattr(LiveState, "lock", counted)
    monkeypatch.setattr(places, "PERIOD", 1)
    redis_fake.set("medgemma:lock:places:phantom", "another")
    with telling(settings):
        wait_for(tries, 2)
        assert told == []
        redis_fake.delete("medgemma:lock:places:phantom")
        wait_for(told, 1)
    assert set(told) == {"phantom"}


def test_after_redis_was_away_it_goes_on(
    settings: Settings, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = fakeredis.FakeServer()
    server.connected = False
    redis = fakeredis.FakeRedis(server=server, decode_responses=True)
    monkeypatch.setattr("medgemma_tasks.connection.connect", lambda _: redis)
    monkeypatch.setattr(places, "PERIOD", 1)
    with telling(settings):
        time.sleep(1.5)
        server.connected = True
        wait_for(told, 1)
