from __future__ import annotations

import fakeredis
import pytest

from medgemma_tasks.dropped import LIFETIME, NO_REQUEST, count
from medgemma_tasks.live import LiveState
from medgemma_tasks.settings import Settings

QUEUE = "medgemma.phantom.interactive"


def test_what_was_dropped_is_counted_by_place_for_every_tenant(live: LiveState) -> None:
    assert live.dropped() == {}
    for place in (QUEUE, NO_REQUEST, QUEUE):
        live.of_tenant("another").count_dropped(place)
    assert live.dropped() == {QUEUE: 2, NO_REQUEST: 1}


def test_a_count_is_kept_for_a_week_after_the_last_one(
    live: LiveState, redis_fake: fakeredis.FakeRedis
) -> None:
    live.count_dropped(QUEUE)
    (key,) = redis_fake.keys("medgemma:*")
    redis_fake.expire(key, 5)
    live.count_dropped(QUEUE)
    assert redis_fake.ttl(key) == LIFETIME


def test_a_number_that_is_none_is_left_out(
    live: LiveState, redis_fake: fakeredis.FakeRedis
) -> None:
    live.count_dropped(QUEUE)
    redis_fake.set("medgemma:dropped:x", "canary")
    redis_fake.lpush("medgemma:dropped:y", "canary")
    assert live.dropped() == {QUEUE: 1}


def test_counting_never_raises(caplog: pytest.LogCaptureFixture) -> None:
    away = Settings.model_validate({"broker_url": "redis://:secret@127.0.0.1:9/0"})
    LiveState(away).count_dropped(QUEUE)
    full = fakeredis.FakeRedis()
    full.set(f"medgemma:dropped:{QUEUE}", "canary")
    count(full, QUEUE)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert all("not counted" in line for line in said)
    assert not any(word in " ".join(said) for word in ("secret", "canary"))
