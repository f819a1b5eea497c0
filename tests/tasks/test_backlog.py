"""What waits, and a job's place in it."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timedelta

import fakeredis
import pytest

from medgemma_tasks.backlog import FRONT, MOST_AHEAD, Waiting, place, waiting
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


def test_the_place_is_the_number_of_jobs_that_came_before(
    redis_fake: fakeredis.FakeRedis,
) -> None:
    push(redis_fake, INTERACTIVE, message(other(1)), message(other(2), other(3), JOB), message("x"))
    assert place(redis_fake, "phantom", other(1)) == 0
    assert place(redis_fake, "phantom", JOB) == 3


def test_all_interactive_jobs_go_before_a_batch_one(redis_fake: fakeredis.FakeRedis) -> None:
    push(redis_fake, BATCH, message(other(1), JOB))
    push(redis_fake, INTERACTIVE, message(other(2), other(3)))
    push(redis_fake, queue_names("another")[0], message(other(4)))
    assert place(redis_fake, "phantom", JOB) == 3


def test_a_job_that_is_not_on_the_queue_has_no_place(redis_fake: fakeredis.FakeRedis) -> None:
    push(redis_fake, INTERACTIVE, message(OTHER_JOB), "no message of ours")
    assert place(redis_fake, "phantom", JOB) is None


@pytest.mark.parametrize("before", [FRONT - 1, FRONT, FRONT + 1, MOST_AHEAD - 1])
def test_a_place_far_back_is_found(redis_fake: fakeredis.FakeRedis, before: int) -> None:
    push(redis_fake, INTERACTIVE, *(message(other(number)) for number in range(before)))
    push(redis_fake, INTERACTIVE, message(JOB))
    assert place(redis_fake, "phantom", JOB) == before


def test_beyond_the_most_it_is_that_many_or_more_and_no_more_is_read(
    redis_fake: fakeredis.FakeRedis,
) -> None:
    push(redis_fake, INTERACTIVE, *(message(other(number)) for number in range(MOST_AHEAD + FRONT)))
    push(redis_fake, BATCH, message(JOB))
    assert place(redis_fake, "phantom", JOB) == MOST_AHEAD
    redis_fake.hset(UNACKED, "tag", json.dumps([json.loads(message(JOB)), "", BATCH]))
    assert place(redis_fake, "phantom", JOB) is None


def test_rubbish_is_read_no_further_than_messages(redis_fake: fakeredis.FakeRedis) -> None:
    push(redis_fake, INTERACTIVE, *["rubbish"] * MOST_AHEAD)
    push(redis_fake, INTERACTIVE, message(JOB))
    assert place(redis_fake, "phantom", JOB) == MOST_AHEAD


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
