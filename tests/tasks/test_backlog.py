"""What waits, and a job's place in it."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timedelta

import fakeredis
import pytest

from medgemma_tasks.backlog import (
    FRONT,
    MOST_AHEAD,
    PLACE_LIFETIME,
    Waiting,
    place,
    tell_places,
    waiting,
)
from medgemma_tasks.in_hand import UNACKED
from medgemma_tasks.queue import queue_names
from tests.parts import JOB, NOW, OTHER_JOB

INTERACTIVE, BATCH = queue_names("phantom")


def message(*jobs: str, tenant: str = "local") -> str:
    body = [[{"schema": 1, "tenant": tenant, "jobs": jobs}], {}, {}]
    return json.dumps({"body": base64.b64encode(json.dumps(body).encode()).decode()})


def other(number: int) -> str:
    return f"{number:032x}"


def push(redis: fakeredis.FakeRedis, queue: str, *messages: str) -> None:
    """As kombu does; workers take from the other end."""
    redis.lpush(queue, *messages)


def never(tenant: str, job_id: str) -> datetime | None:
    return None


def places(redis: fakeredis.FakeRedis, *jobs: str, tenant: str = "local") -> list[int | None]:
    """What is told of the jobs' places just now."""
    tell_places(redis, "phantom")
    return [place(redis, tenant, job) for job in jobs]


def test_the_place_is_the_number_of_jobs_that_came_before(
    redis_fake: fakeredis.FakeRedis,
) -> None:
    push(redis_fake, INTERACTIVE, message(other(1)), message(other(2), other(3), JOB), message("x"))
    assert place(redis_fake, "local", JOB) is None
    assert places(redis_fake, other(1), JOB) == [0, 3]


def test_all_interactive_jobs_go_before_a_batch_one(redis_fake: fakeredis.FakeRedis) -> None:
    push(redis_fake, BATCH, message(other(1), JOB))
    push(redis_fake, INTERACTIVE, message(other(2), other(3)))
    push(redis_fake, queue_names("another")[0], message(other(4)))
    assert places(redis_fake, JOB, other(4)) == [3, None]


def test_a_job_that_is_not_on_the_queue_has_no_place(redis_fake: fakeredis.FakeRedis) -> None:
    push(redis_fake, INTERACTIVE, message(OTHER_JOB), "no message of ours")
    assert places(redis_fake, JOB) == [None]


def test_a_job_with_two_messages_has_the_place_of_the_first(
    redis_fake: fakeredis.FakeRedis,
) -> None:
    push(redis_fake, INTERACTIVE, message(JOB), message(other(1)), message(JOB), message(other(2)))
    assert places(redis_fake, JOB, other(2)) == [0, 2]


def test_each_tenant_is_told_of_its_own_jobs_and_all_count(
    redis_fake: fakeredis.FakeRedis,
) -> None:
    push(redis_fake, INTERACTIVE, message(OTHER_JOB, tenant="clinic"), message(JOB))
    assert places(redis_fake, JOB, OTHER_JOB) == [1, None]
    assert places(redis_fake, OTHER_JOB, tenant="clinic") == [0]


@pytest.mark.parametrize("before", [FRONT - 1, FRONT, FRONT + 1, MOST_AHEAD - 1])
def test_a_place_far_back_is_told(redis_fake: fakeredis.FakeRedis, before: int) -> None:
    push(redis_fake, INTERACTIVE, *(message(other(number)) for number in range(before)))
    push(redis_fake, INTERACTIVE, message(JOB))
    assert places(redis_fake, JOB) == [before]


@pytest.mark.parametrize("queue", [INTERACTIVE, BATCH])
def test_beyond_the_most_none_is_told(redis_fake: fakeredis.FakeRedis, queue: str) -> None:
    shards = (message(*map(other, range(start, start + 250))) for start in range(0, 2000, 250))
    push(redis_fake, INTERACTIVE, *shards)
    push(redis_fake, queue, message(JOB))
    assert places(redis_fake, other(MOST_AHEAD - 1), JOB) == [MOST_AHEAD - 1, None]


def test_rubbish_is_read_no_further_than_messages(redis_fake: fakeredis.FakeRedis) -> None:
    push(redis_fake, INTERACTIVE, *["rubbish"] * MOST_AHEAD)
    push(redis_fake, BATCH, message(JOB))
    assert places(redis_fake, JOB) == [None]


def test_a_place_is_forgotten_unless_it_is_told_again(redis_fake: fakeredis.FakeRedis) -> None:
    push(redis_fake, INTERACTIVE, message(JOB))
    tell_places(redis_fake, "phantom")
    (key,) = redis_fake.keys("medgemma:place:*")
    assert 0 < redis_fake.ttl(key) <= PLACE_LIFETIME


def test_every_queue_of_every_model_is_shown_with_what_it_holds(
    redis_fake: fakeredis.FakeRedis,
) -> None:
    push(redis_fake, BATCH, message(JOB, tenant="clinic"), message(other(1), other(2)), "rubbish")
    push(redis_fake, queue_names("some/model")[0], message(OTHER_JOB))
    asked: list[tuple[str, str]] = []

    def submitted_at(tenant: str, job_id: str) -> datetime | None:
        asked.append((tenant, job_id))
        return NOW if job_id == JOB else None

    assert waiting(redis_fake, submitted_at) == [
        Waiting("phantom", "batch", messages=3, jobs=3, oldest=NOW),
        Waiting("some/model", "interactive", messages=1, jobs=1),
    ]
    assert sorted(asked) == [("clinic", JOB), ("local", OTHER_JOB)]


def test_what_is_delivered_counts_with_the_queue_it_came_from(
    redis_fake: fakeredis.FakeRedis,
) -> None:
    for tag, queue in (("1", INTERACTIVE), ("2", INTERACTIVE), ("3", BATCH)):
        taken = [json.loads(message(JOB, OTHER_JOB)), "", queue]
        redis_fake.hset(UNACKED, tag, json.dumps(taken))
    redis_fake.hset(UNACKED, "4", "rubbish")
    assert waiting(redis_fake, never) == [
        Waiting("phantom", "interactive", delivered=4),
        Waiting("phantom", "batch", delivered=2),
    ]


def test_a_queue_of_another_priority_is_the_same_queue(redis_fake: fakeredis.FakeRedis) -> None:
    push(redis_fake, f"{INTERACTIVE}\x06\x163", message(JOB))
    push(redis_fake, INTERACTIVE, message(OTHER_JOB))
    push(redis_fake, "medgemma.something", message(JOB))
    ages = {JOB: NOW, OTHER_JOB: NOW + timedelta(seconds=1)}
    (queue,) = waiting(redis_fake, lambda _, job_id: ages[job_id])
    assert (queue.messages, queue.jobs, queue.oldest) == (2, 2, NOW)


def test_where_nothing_waits_there_is_nothing(redis_fake: fakeredis.FakeRedis) -> None:
    assert waiting(redis_fake, never) == []
