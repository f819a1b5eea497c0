"""What workers are told: to take no further message, and to take them again."""

from __future__ import annotations

from typing import Any

import fakeredis

from medgemma_tasks.models import WorkerHealth, WorkerState
from medgemma_tasks.orders import LIFETIME, keep, order, ordered
from tests.parts import NOW

NAME = "gpu-0@host"


def worker(**fields: Any) -> WorkerHealth:
    known = {"name": NAME, "host": "host", "model": "some/model", "device": "GPU-0", "pid": 7}
    times = {"since": NOW, "started_at": NOW}
    return WorkerHealth(**{"state": WorkerState.READY, "post": "a", **known, **times, **fields})


def told(redis: fakeredis.FakeRedis, post: str = "a", model: str = "some/model") -> bool | None:
    return ordered(redis, model, NAME, post)


def test_the_last_order_counts(redis_fake: fakeredis.FakeRedis) -> None:
    assert told(redis_fake) is None
    order(redis_fake, worker(), out=True)
    assert told(redis_fake) is True
    order(redis_fake, worker(), out=False)
    assert told(redis_fake) is False


def test_an_order_is_for_one_model_and_one_post(redis_fake: fakeredis.FakeRedis) -> None:
    order(redis_fake, worker(), out=True)
    assert told(redis_fake, model="other/model") is None
    assert told(redis_fake, post="of the next supervisor") is None


def test_an_order_lapses_unless_it_is_kept(redis_fake: fakeredis.FakeRedis) -> None:
    order(redis_fake, worker(), out=True)
    (key,) = redis_fake.keys("medgemma:order:*")
    redis_fake.expire(key, 5)
    keep(redis_fake, "some/model", NAME, "a")
    assert redis_fake.ttl(key) == LIFETIME
    redis_fake.flushall()
    keep(redis_fake, "some/model", NAME, "a")
    assert told(redis_fake) is True


def test_to_keep_an_order_takes_nothing_back(redis_fake: fakeredis.FakeRedis) -> None:
    order(redis_fake, worker(), out=False)
    keep(redis_fake, "some/model", NAME, "a")
    assert told(redis_fake) is False
