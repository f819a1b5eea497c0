"""What anybody who reaches Redis can put on a queue, and whose limits hold for it."""

from __future__ import annotations

import base64
import json
import uuid
from pathlib import Path

import pytest

from medgemma_client.client import Client
from medgemma_tasks.errors import JobTimeLimit
from medgemma_tasks.queue import TASK, make_app, queue_names
from medgemma_worker.intake import DROPPED
from tests.parts import JOB, picture
from tests.service.harness import Service, WorkerProcess
from tests.stub_engine import ANSWER

WAIT = 30.0
QUEUE = queue_names("phantom")[0]


def message(body: bytes, **headers: object) -> bytes:
    return json.dumps(
        {
            "body": base64.b64encode(body).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"lang": "py", "task": TASK, "id": str(uuid.uuid4()), **headers},
            "properties": {
                "correlation_id": "1",
                "delivery_mode": 2,
                "delivery_info": {"exchange": QUEUE, "routing_key": QUEUE},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": str(uuid.uuid4()),
            },
        }
    ).encode()


WRONG = {
    "body is no list": message(b'"canary"'),
    "limits are no numbers": message(b"[[],{},{}]", timelimit=["canary", "canary"]),
    "body is no JSON": message(b"{canary"),
    "no JSON": b"canary",
    "a list": b"[1]",
    "no headers": message(b"[[],{},{}]").replace(b'"headers"', b'"canary"'),
    "compressed by nothing known": message(b"[[],{},{}]", compression="canary"),
}


def test_no_message_of_whatever_form_ends_a_worker_or_its_job_or_reaches_its_log(
    idle: Service,
) -> None:
    with idle.worker:
        running = idle.ask("sleep 2")
        idle.running(running)
        for wrong in WRONG.values():
            idle.redis.lpush(QUEUE, wrong)
        assert running.wait(WAIT).record.attempt == 1
        assert idle.ask("Alive after that?").wait(WAIT).answer == ANSWER
        assert idle.worker._process is not None
        assert idle.worker._process.poll() is None
    assert idle.worker.log.count(DROPPED) == len(WRONG)
    assert "canary" not in idle.worker.log.replace(ANSWER, "")


def test_messages_are_read_first_after_a_reconnection_too(idle: Service) -> None:
    with idle.worker:
        idle.redis.client_kill_filter(_type="normal", skipme=True)
        for wrong in WRONG.values():
            idle.redis.lpush(QUEUE, wrong)
        assert idle.ask("Alive after that?").wait(WAIT).answer == ANSWER
    assert idle.worker.log.count(DROPPED) == len(WRONG)
    assert "Connection to broker lost" in idle.worker.log


def test_tasks_that_are_no_shards_are_dropped_and_stop_nobody(idle: Service) -> None:
    app = make_app(idle.settings)
    wrong = ([], [1, 2], ["text"], [{"schema": 1, "tenant": "local", "jobs": ["../../x"]}], [None])
    with idle.worker:
        for args in wrong:
            app.send_task(TASK, args=args, queue=QUEUE)
        app.send_task("medgemma.unheard-of", args=[], queue=QUEUE)
        shard = {"schema": 1, "tenant": "local", "jobs": [JOB]}
        app.send_task(TASK, args=[shard], queue=QUEUE)
        assert idle.ask("Alive after that?").wait(WAIT).answer == ANSWER
    assert idle.worker.log.count(DROPPED) == len(wrong) + 1
    assert f"job {JOB}: has no request, dropped" in idle.worker.log


@pytest.mark.parametrize("clients", [{}, {"soft_time_limit": 99, "hard_time_limit": 100}])
def test_the_limit_of_the_worker_holds_whatever_the_clients_is(
    idle: Service, tmp_path: Path, clients: dict[str, int]
) -> None:
    client = Client(idle.settings.model_copy(update=clients))
    limits = {"MEDGEMMA_SOFT_TIME_LIMIT": "1", "MEDGEMMA_HARD_TIME_LIMIT": "20"}
    with WorkerProcess(tmp_path, **limits):
        with pytest.raises(JobTimeLimit):
            client.submit(picture(), "hang 10").wait(WAIT)
        assert client.submit(picture(), "Alive after that?").wait(WAIT).answer == ANSWER
