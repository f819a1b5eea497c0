"""Who tells clients their places, and what a part that is away does to it."""

from __future__ import annotations

import time

import fakeredis
import pytest

from medgemma_tasks import backlog
from medgemma_tasks.settings import Settings
from medgemma_worker import places
from medgemma_worker.places import telling


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The model of each telling."""
    found: list[str] = []
    monkeypatch.setattr(backlog, "tell_places", lambda redis, model: found.append(model))
    return found


def wait_for(told: list[str], number: int) -> None:
    deadline = time.monotonic() + 20
    while len(told) < number:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_of_two_one_tells_in_a_period(
    settings: Settings,
    redis_fake: fakeredis.FakeRedis,
    told: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("medgemma_tasks.live.connect", lambda _: redis_fake)
    monkeypatch.setattr(places, "PERIOD", 1)
    locks: list[str] = []
    monkeypatch.setattr(redis_fake, "set", _counting(redis_fake.set, locks))
    with telling(settings), telling(settings):
        wait_for(told, 2)
    assert len(locks) > len(told)
    assert set(told) == {"phantom"}


def _counting(real: object, calls: list[str]) -> object:
    def call(key: str, *arguments: object, **options: object) -> object:
        calls.append(key)
        return real(key, *arguments, **options)  # type: ignore[operator]

    return call


def test_after_redis_was_away_it_goes_on(
    settings: Settings, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = fakeredis.FakeServer()
    server.connected = False
    redis = fakeredis.FakeRedis(server=server, decode_responses=True)
    monkeypatch.setattr("medgemma_tasks.live.connect", lambda _: redis)
    monkeypatch.setattr(places, "PERIOD", 1)
    with telling(settings):
        time.sleep(1.5)
        server.connected = True
        wait_for(told, 1)
