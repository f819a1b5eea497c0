from __future__ import annotations

import json
from typing import Any

import pytest
import redis
from pydantic import ValidationError

from medgemma_tasks.errors import BrokerUnreachable
from medgemma_tasks.in_hand import jobs_of
from medgemma_tasks.queue import (
    LARGEST_MESSAGE,
    TASK,
    Shard,
    make_app,
    publish,
    queue_names,
    queue_settings,
)
from medgemma_tasks.settings import Settings
from tests.parts import JOB, OTHER_JOB


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []

    def send_task(self: object, name: str, **options: Any) -> None:
        calls.append({"name": name, **options})

    monkeypatch.setattr("celery.Celery.send_task", send_task)
    return calls


def test_interactive_goes_before_batch() -> None:
    app = make_app(Settings())
    assert tuple(app.amqp.queues.consume_from) == queue_names("phantom")
    assert app.conf.broker_transport_options["queue_order_strategy"] == "priority"


def test_no_message_lands_in_two_queues() -> None:
    queues = make_app(Settings()).amqp.queues.values()
    assert len({(queue.exchange.name, queue.routing_key) for queue in queues}) == 2


def test_nothing_but_json_is_taken() -> None:
    conf = make_app(Settings()).conf
    assert conf.accept_content == ["json"]
    assert conf.task_serializer == "json"
    assert conf.task_ignore_result


def test_every_setting_is_one_that_celery_knows() -> None:
    from celery.app.defaults import NAMESPACES, flatten

    known = {name for name, _ in flatten(NAMESPACES)}
    assert set(queue_settings(Settings())) <= known


def test_every_transport_option_is_one_that_kombu_knows() -> None:
    from kombu.transport.redis import Channel

    options = set(queue_settings(Settings())["broker_transport_options"])
    assert options - {"unacked_restore_interval"} <= set(Channel.from_transport_options)
    assert hasattr(Channel, "unacked_restore_interval")


def test_a_message_holds_ids_and_nothing_else(sent: list[dict[str, Any]]) -> None:
    settings = Settings()
    publish(make_app(settings), settings, "google/medgemma", [JOB, OTHER_JOB], batch=True)
    (call,) = sent
    assert call["name"] == TASK
    assert call["queue"] == "medgemma.google--medgemma.batch"
    assert json.loads(json.dumps(call["args"])) == [
        {"schema": 1, "tenant": "local", "jobs": [JOB, OTHER_JOB]}
    ]


def test_a_message_brings_no_limits_of_its_sender(sent: list[dict[str, Any]]) -> None:
    settings = Settings(soft_time_limit=10, hard_time_limit=12)
    publish(make_app(settings), settings, "phantom", [JOB, OTHER_JOB])
    assert not [name for name in sent[0] if "limit" in name]


def test_the_largest_shard_is_far_below_what_a_worker_reads(stack_settings: Settings) -> None:
    settings = stack_settings.model_copy(update={"tenant": "x" * 63})
    model = "m" * 128
    publish(make_app(settings), settings, model, [JOB] * 256)
    with redis.Redis.from_url(settings.broker_url.get_secret_value()) as client:
        (item,) = client.lrange(queue_names(model)[0], 0, -1)
    assert len(item) < LARGEST_MESSAGE / 4
    assert jobs_of(item.decode()) == (JOB,) * 256
    assert jobs_of(item.decode() + " " * LARGEST_MESSAGE) == ()


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"schema": 2, "tenant": "local", "jobs": [JOB]},
        {"schema": 1, "tenant": "local", "jobs": []},
        {"schema": 1, "tenant": "local", "jobs": ["../" + JOB]},
        {"schema": 1, "tenant": "../x", "jobs": [JOB]},
        {"schema": 1, "tenant": "local", "jobs": [JOB] * 257},
        {"schema": 1, "tenant": "local", "jobs": [JOB], "prompt": "text"},
    ],
)
def test_a_wrong_message_is_no_shard(message: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Shard.model_validate(message)


def test_a_broker_that_is_away_is_named_without_credentials() -> None:
    settings = Settings.model_validate({"broker_url": "redis://:secret@127.0.0.1:9/0"})
    with pytest.raises(BrokerUnreachable) as caught:
        publish(make_app(settings), settings, "phantom", [JOB])
    assert "127.0.0.1:9" in caught.value.message
    assert "secret" not in caught.value.message
