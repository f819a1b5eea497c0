from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import fakeredis
import pytest

from medgemma_tasks.live import LiveState
from medgemma_tasks.queue import LARGEST_MESSAGE, TASK
from medgemma_worker.board import Board
from medgemma_worker.parent.intake import DROPPED, Intake, rewritten
from tests.parts import JOB, OTHER_JOB

QUEUE = "medgemma.phantom.interactive"
SHARD = {"schema": 1, "tenant": "local", "jobs": [JOB, OTHER_JOB]}
ID = str(uuid.uuid4())

Taken = Callable[[list[bytes] | None], tuple[bytes, bytes] | None]


def message(body: object = ([SHARD], {}, {}), **headers: object) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return json.dumps(
        {
            "body": base64.b64encode(content).decode(),
            "content-type": "application/canary",
            "headers": {"task": TASK, "id": ID, **headers},
            "properties": {"delivery_tag": "canary", "reply_to": "canary", "priority": 9},
        }
    ).encode()


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def taken(board: Board, redis_fake: fakeredis.FakeRedis) -> Taken:
    """What the step makes of a reply of Redis."""
    callbacks: dict[str, Taken] = {}
    client = SimpleNamespace(set_response_callback=callbacks.__setitem__)
    consumer = SimpleNamespace(
        app=SimpleNamespace(
            conf=SimpleNamespace(task_soft_time_limit=10, task_time_limit=12),
            board=board,
        ),
        task_consumer=SimpleNamespace(
            channel=SimpleNamespace(
                client=client, sep="\x06\x16", conn_or_acquire=lambda: nullcontext(redis_fake)
            )
        ),
    )
    Intake(consumer).start(consumer)
    return callbacks["BRPOP"]


def read(item: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(item)
    found["body"] = json.loads(base64.b64decode(found["body"]))
    return found


def test_a_message_keeps_its_shard_and_its_ids_and_nothing_else() -> None:
    item = message(shadow="canary", eta="2099-01-01", argsrepr="canary", compression="canary")
    found = read(rewritten(item, QUEUE, 10, 12))
    assert found["body"] == [[SHARD], {}, {}]
    assert found["headers"]["id"] == ID
    assert found["properties"]["delivery_info"] == {"exchange": "", "routing_key": QUEUE}
    assert "canary" not in json.dumps(found)
    assert "eta" not in found["headers"]


def test_a_message_keeps_its_place_in_a_trace_if_it_is_one() -> None:
    place = f"00-{JOB}-{JOB[:16]}-01"
    kept = read(rewritten(message(traceparent=place, tracestate="canary"), QUEUE, 10, 12))
    assert kept["headers"]["traceparent"] == place
    for wrong in ("canary", place + "\n", [place], 7, None):
        item = rewritten(message(traceparent=wrong, baggage="canary"), QUEUE, 10, 12)
        assert "traceparent" not in read(item)["headers"]
        assert "canary" not in item.decode()


def test_each_taking_of_a_message_has_a_delivery_tag_of_its_own() -> None:
    """Else a worker that lost its lease acknowledges the message for the one that has it now."""
    once = rewritten(message(), QUEUE, 10, 12)
    twice = rewritten(once, QUEUE, 10, 12)
    tags = {read(item)["properties"]["delivery_tag"] for item in (message(), once, twice)}
    assert len(tags) == 3


def test_the_largest_message_is_taken_and_one_that_is_larger_is_not_read() -> None:
    full = message(body=([{**SHARD, "jobs": [JOB] * 256}], {}, {}))
    assert len(full) < LARGEST_MESSAGE / 4
    padded = full + b" " * (LARGEST_MESSAGE - len(full))
    assert rewritten(padded, QUEUE, 10, 12)
    with pytest.raises(ValueError):
        rewritten(padded + b" ", QUEUE, 10, 12)


def test_the_limits_are_the_workers_for_each_job() -> None:
    for jobs, limits in (([JOB], [12, 10]), ([JOB, OTHER_JOB], [22, 20])):
        item = message(([{**SHARD, "jobs": jobs}], {}, {}), timelimit=[9999, 9999])
        assert read(rewritten(item, QUEUE, 10, 12))["headers"]["timelimit"] == limits


def test_a_shard_that_is_taken_goes_back_to_the_queue_it_came_from(taken: Taken) -> None:
    for key in (QUEUE, f"{QUEUE}\x06\x163"):
        answer = taken([key.encode(), message()])
        assert answer is not None
        assert answer[0] == key.encode()
        assert read(answer[1])["properties"]["delivery_info"]["routing_key"] == QUEUE


def test_a_call_that_timed_out_brings_nothing_but_shows_that_the_queue_answers(
    taken: Taken, board: Board, caplog: pytest.LogCaptureFixture
) -> None:
    assert board.polled == 0.0
    assert taken(None) is None
    assert board.polled > 0.0
    assert caplog.records == []


@pytest.mark.parametrize(
    "wrong",
    [
        b"canary",
        b"\xff",
        b"[1]",
        b"[" * 100_000,
        b"{}",
        message(b"canary"),
        message("canary"),
        message([[], {}, {}]),
        message([["canary"], {}, {}]),
        message([[{}], {}, {}]),
        message([[SHARD, SHARD], {}, {}]),
        message([[SHARD], {"canary": 1}, {}]),
        message([[{**SHARD, "jobs": ["../../canary"]}], {}, {}]),
        message(task="canary"),
        message(task=["canary"]),
        message(id="canary"),
        message() + b" " * LARGEST_MESSAGE,
    ],
)
def test_any_other_message_is_dropped_and_counted_without_a_word_of_it_in_the_log(
    taken: Taken, wrong: bytes, live: LiveState, caplog: pytest.LogCaptureFixture
) -> None:
    for key in (QUEUE, f"{QUEUE}\x06\x163"):
        caplog.clear()
        assert taken([key.encode(), wrong]) is None
        assert [record.getMessage() for record in caplog.records] == [DROPPED]
        assert caplog.records[0].exc_info is None
    assert live.dropped() == {QUEUE: 2}
