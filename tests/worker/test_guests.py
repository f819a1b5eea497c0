"""Guests, over real Redis: what kombu does to its own messages it must be able to do to theirs."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis

from medgemma_tasks.dropped import counted
from medgemma_tasks.in_hand import UNACKED
from medgemma_tasks.live import LiveState
from medgemma_tasks.queue import make_app, publish, queue_names
from medgemma_tasks.settings import Settings
from medgemma_worker.guests import AWAY_PAUSE, Guests
from medgemma_worker.parent.intake import DROPPED
from medgemma_worker.places import MOST_GUESTS
from medgemma_worker.unacked import INDEX
from tests.parts import JOB, OTHER_JOB

INTERACTIVE, BATCH = queue_names("phantom")


@pytest.fixture
def broker(stack_settings: Settings) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(stack_settings.broker_url.get_secret_value()) as client:
        yield client


@pytest.fixture
def guests(stack_settings: Settings, broker: redis.Redis) -> Iterator[Guests]:
    guests = Guests(stack_settings)
    yield guests
    guests.close()


def send(settings: Settings, *jobs: str, batch: bool = False) -> None:
    publish(make_app(settings), settings, "phantom", jobs, batch=batch)


def lapse(broker: redis.Redis) -> None:
    """Let all leases have run out."""
    for tag in broker.zrange(INDEX, 0, -1):
        broker.zadd(INDEX, {tag: 1.0})


def kombu_restores(settings: Settings) -> None:
    """What the parent of any worker does each second."""
    with make_app(settings).connection_for_read() as connection:
        channel: Any = connection.channel()
        channel.qos.restore_visible(num=10, interval=1)


def kombu_takes(settings: Settings) -> list[str]:
    """The jobs of the next message, as any other worker would take it."""
    with make_app(settings).connection_for_read() as connection:
        channel: Any = connection.channel()
        message = channel.basic_get(INTERACTIVE)
        jobs: list[str] = message.decode()[0][0]["jobs"]
        message.ack()
        return jobs


def test_where_nothing_waits_there_is_no_guest(guests: Guests, broker: redis.Redis) -> None:
    assert guests.take() is None
    assert not broker.exists(UNACKED, INDEX)


def test_a_guest_is_delivered_until_it_is_acknowledged(
    guests: Guests, broker: redis.Redis, stack_settings: Settings
) -> None:
    send(stack_settings, JOB)
    guest = guests.take()
    assert guest is not None
    assert (guest.shard.tenant, guest.shard.jobs) == ("local", (JOB,))
    assert broker.llen(INTERACTIVE) == 0
    assert JOB in LiveState(stack_settings).known()
    assert broker.hkeys(UNACKED) == broker.zrange(INDEX, 0, -1) == [guest.tag.encode()]
    assert broker.zscore(INDEX, guest.tag) == pytest.approx(time.time(), abs=60)
    guest.done()
    assert not broker.exists(UNACKED, INDEX, INTERACTIVE)


def test_who_came_first_is_the_first_guest(guests: Guests, stack_settings: Settings) -> None:
    send(stack_settings, JOB)
    send(stack_settings, OTHER_JOB)
    first, second = guests.take(), guests.take()
    assert first is not None
    assert second is not None
    assert (first.shard.jobs, second.shard.jobs) == ((JOB,), (OTHER_JOB,))


def test_a_guest_that_is_given_back_goes_next_and_to_any_worker(
    guests: Guests, broker: redis.Redis, stack_settings: Settings
) -> None:
    send(stack_settings, JOB)
    guest = guests.take()
    send(stack_settings, OTHER_JOB)
    assert guest is not None
    guest.give_back()
    guest.give_back()
    assert not broker.exists(UNACKED, INDEX)
    assert broker.llen(INTERACTIVE) == 2
    assert kombu_takes(stack_settings) == [JOB]
    assert kombu_takes(stack_settings) == [OTHER_JOB]


def test_each_taking_has_a_tag_of_its_own(guests: Guests, stack_settings: Settings) -> None:
    """Else whoever lost its lease acknowledges the message for the one that has it now."""
    send(stack_settings, JOB)
    once = guests.take()
    assert once is not None
    once.give_back()
    twice = guests.take()
    assert twice is not None
    once.done()
    twice.give_back()
    assert kombu_takes(stack_settings) == [JOB]


def test_a_guest_comes_back_when_its_process_was_killed_and_its_lease_has_run_out(
    guests: Guests, broker: redis.Redis, stack_settings: Settings
) -> None:
    send(stack_settings, JOB)
    pid = os.fork()
    if pid == 0:
        guests.take()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert broker.llen(INTERACTIVE) == 0
    kombu_restores(stack_settings)
    assert broker.llen(INTERACTIVE) == 0
    lapse(broker)
    kombu_restores(stack_settings)
    assert not broker.exists(UNACKED, INDEX)
    guest = guests.take()
    assert guest is not None
    assert guest.shard.jobs == (JOB,)


def test_a_batch_job_is_no_guest(
    guests: Guests, broker: redis.Redis, stack_settings: Settings
) -> None:
    send(stack_settings, JOB, batch=True)
    assert guests.take() is None
    assert broker.llen(BATCH) == 1


def test_a_message_of_many_jobs_waits_for_a_worker_that_has_nothing_else(
    guests: Guests, stack_settings: Settings
) -> None:
    jobs = [f"{number:032x}" for number in range(MOST_GUESTS + 1)]
    send(stack_settings, *jobs[1:])
    taken = guests.take()
    assert taken is not None
    assert list(taken.shard.jobs) == jobs[1:]
    send(stack_settings, *jobs)
    assert guests.take() is None
    assert kombu_takes(stack_settings) == jobs


@pytest.mark.parametrize(
    "item", [b"canary", b"\xff\xfe canary", b"{}", json.dumps({"headers": {"id": "canary"}})]
)
def test_a_message_that_is_no_shard_is_dropped_counted_and_not_quoted(
    guests: Guests,
    broker: redis.Redis,
    stack_settings: Settings,
    item: bytes | str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker.lpush(INTERACTIVE, item)
    send(stack_settings, JOB)
    assert guests.take() is None
    guest = guests.take()
    assert guest is not None
    assert guest.shard.jobs == (JOB,)
    with LiveState(stack_settings).connected() as decoding:
        assert counted(decoding) == {INTERACTIVE: 1}
    assert DROPPED in caplog.text
    assert "canary" not in caplog.text


def test_a_message_that_another_worker_takes_meanwhile_is_its(
    guests: Guests,
    broker: redis.Redis,
    stack_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    send(stack_settings, JOB)
    send(stack_settings, OTHER_JOB)
    lrange = redis.Redis.lrange

    def looked(self: redis.Redis, *arguments: Any) -> Any:
        found = lrange(self, *arguments)
        broker.rpop(INTERACTIVE)
        return found

    monkeypatch.setattr(redis.Redis, "lrange", looked)
    assert guests.take() is None
    assert not broker.exists(UNACKED)
    assert broker.llen(INTERACTIVE) == 1


def test_with_redis_away_nothing_is_raised_and_it_is_asked_seldom(
    stack_settings: Settings,
    broker: redis.Redis,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = stack_settings.broker_url
    monkeypatch.setenv("MEDGEMMA_BROKER_URL", "redis://127.0.0.1:1/0")
    away = Settings()
    guests = Guests(away)
    assert guests.take() is None
    assert guests.take() is None
    assert len(caplog.records) == 1
    send(stack_settings, JOB)
    guests._settings = away.model_copy(update={"broker_url": here})
    guests.close()
    assert guests.take() is None
    guests._not_before -= AWAY_PAUSE
    guest = guests.take()
    assert guest is not None
    guest.done()
    guests.close()


def test_a_guest_that_redis_is_away_for_is_left_to_its_lease(
    guests: Guests, stack_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    send(stack_settings, JOB)
    guest = guests.take()
    assert guest is not None
    lost = replace(guest, redis=redis.Redis.from_url("redis://127.0.0.1:1/0"))
    lost.done()
    lost.give_back()
    assert len(caplog.records) == 2
