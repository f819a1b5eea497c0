"""What workers say of themselves, as Redis keeps it."""

from __future__ import annotations

import json

import fakeredis
import pytest

from medgemma_tasks.in_hand import settled_after
from medgemma_tasks.models import WorkerHealth, WorkerState
from medgemma_tasks.workers import FAILED_LIFETIME, forget, say, worker, workers
from tests.parts import NOW


def health(
    name: str = "gpu-0@host", model: str = "phantom", state: WorkerState = WorkerState.READY
) -> WorkerHealth:
    return WorkerHealth(
        name=name,
        host="host",
        model=model,
        device="GPU-0",
        pid=7,
        state=state,
        since=NOW,
        started_at=NOW,
    )


def test_what_a_worker_says_is_read_until_it_leaves(redis_fake: fakeredis.FakeRedis) -> None:
    first, second = health("gpu-1@host"), health("gpu-0@host", "some/model")
    say(redis_fake, second, 60)
    say(redis_fake, first, 60)
    assert workers(redis_fake) == [first, second]
    assert worker(redis_fake, "some/model", "gpu-0@host") == second
    forget(redis_fake, "some/model", "gpu-0@host")
    assert workers(redis_fake) == [first]
    assert worker(redis_fake, "some/model", "gpu-0@host") is None


def test_two_models_on_a_device_of_one_name_are_two_workers(
    redis_fake: fakeredis.FakeRedis,
) -> None:
    say(redis_fake, health(model="one"), 60)
    say(redis_fake, health(model="two"), 60)
    assert len(workers(redis_fake)) == 2


@pytest.mark.parametrize("state", WorkerState)
def test_it_is_forgotten_unless_it_is_said_again_and_a_failed_setup_much_later(
    redis_fake: fakeredis.FakeRedis, state: WorkerState
) -> None:
    say(redis_fake, health(state=state), 60)
    (key,) = redis_fake.keys("medgemma:worker:*")
    failed = state is WorkerState.SETUP_FAILED
    lifetime = FAILED_LIFETIME if failed else settled_after(60)
    assert lifetime - 5 < redis_fake.pttl(key) / 1000 <= lifetime


def test_what_is_no_word_of_a_worker_is_passed_over(redis_fake: fakeredis.FakeRedis) -> None:
    redis_fake.set("medgemma:worker:phantom:rubbish", "{}")
    redis_fake.lpush("medgemma:worker:phantom:list", "rubbish")
    say(redis_fake, health(), 60)
    assert workers(redis_fake) == [health()]


def test_a_word_of_a_worker_of_another_version_is_read(redis_fake: fakeredis.FakeRedis) -> None:
    say(redis_fake, health().model_copy(update={"rate": 2.5, "shard": 8}), 60)
    (key,) = redis_fake.keys("medgemma:worker:*")
    said = json.loads(redis_fake.get(key))
    redis_fake.set(key, json.dumps(said | {"from_the_future": 1}))
    assert [(w.rate, w.shard) for w in workers(redis_fake)] == [(2.5, 8)]
    older = {name: value for name, value in said.items() if name not in ("rate", "shard")}
    redis_fake.set(key, json.dumps(older))
    assert [(w.rate, w.shard) for w in workers(redis_fake)] == [(None, None)]


def test_a_worker_in_a_state_that_this_version_does_not_know_is_not_there(
    redis_fake: fakeredis.FakeRedis,
) -> None:
    say(redis_fake, health(), 60)
    (key,) = redis_fake.keys("medgemma:worker:*")
    redis_fake.set(key, json.dumps(json.loads(redis_fake.get(key)) | {"state": "from the future"}))
    assert workers(redis_fake) == []


def test_of_all_states_two_serve() -> None:
    assert {state for state in WorkerState if state.serves} == {
        WorkerState.READY,
        WorkerState.BUSY,
    }
