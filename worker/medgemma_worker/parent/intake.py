"""What the queue hands in: each message is read, and written anew, before Celery sees it.

Whoever can write to Redis can put anything on the list. Celery ends the whole worker over much of
it, then once more when the message comes back; it quotes the rest in its log; and it obeys the time
limits, dates and names in a message's headers. So of a message no more than its shard, its ids and
its place in a trace are kept, the limits are the worker's own, and what holds no shard is dropped:
counted, unquoted.
"""

from __future__ import annotations

import base64
import json
import logging
import uuid
from typing import Any

from celery import bootsteps

from medgemma_tasks.dropped import count
from medgemma_tasks.in_hand import shard_of
from medgemma_tasks.queue import LARGEST_MESSAGE, TASK
from medgemma_tasks.tracing import TRACEPARENT, traceparent

log = logging.getLogger(__name__)

DROPPED = "a message that is no shard of jobs was dropped"


class Intake(bootsteps.StartStopStep):
    """A step of the consumer: what it takes from its queues is a shard, or as good as nothing."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        conf = consumer.app.conf
        soft, hard = conf.task_soft_time_limit, conf.task_time_limit
        channel, board = consumer.task_consumer.channel, consumer.app.board

        def taken(answer: list[bytes] | None) -> tuple[bytes, bytes] | None:
            board.note_poll()
            if not answer:
                return None  # the call timed out; None is what kombu makes of that
            key, item = answer
            # A list's key is its queue's name and, after a separator, a priority.
            queue = key.decode().partition(channel.sep)[0]
            try:
                return key, rewritten(item, queue, soft, hard)
            except Exception:  # noqa: BLE001 - it can be anything, and so can what it leads to
                log.error(DROPPED)
            with channel.conn_or_acquire() as client:
                count(client, queue)
            return None

        # The reply of Redis itself: kombu already fails on a message that is not JSON.
        channel.client.set_response_callback("BRPOP", taken)


def rewritten(item: bytes, queue: str, soft: int, hard: int) -> bytes:
    """A message as it came off the list, with only what a worker needs of it.

    queue: the one that it came from, and goes back to. soft, hard: seconds for one job; a limit
    covers the whole message, so it grows with the jobs.

    Each taking has a delivery tag of its own. One that a message kept would let a worker that lost
    its lease acknowledge the message for whoever has it now.

    Raises whatever reading raises where it holds no shard for us, and ValueError, before it is
    read, where it is larger than any of ours.
    """
    if len(item) > LARGEST_MESSAGE:
        raise ValueError
    message = json.loads(item)
    headers = message["headers"]
    task_id = _uuid(headers["id"])
    content = json.loads(base64.b64decode(message["body"]))
    shard, (_, kwargs, _) = shard_of(content), content
    if kwargs or headers["task"] != TASK:
        raise ValueError
    sent_in = traceparent(headers.get(TRACEPARENT))
    others = soft * (len(shard.jobs) - 1)
    body = json.dumps([[shard.model_dump(mode="json", by_alias=True)], {}, {}])
    return json.dumps(
        {
            "body": base64.b64encode(body.encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {
                "lang": "py",
                "task": TASK,
                "id": task_id,
                "timelimit": [others + hard, others + soft],
                **({} if sent_in is None else {TRACEPARENT: sent_in}),
            },
            "properties": {
                "body_encoding": "base64",
                "correlation_id": task_id,
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": queue},
                "delivery_tag": str(uuid.uuid4()),
                "priority": 0,
            },
        }
    ).encode()


def _uuid(text: str) -> str:
    """The id, which Celery logs, or ValueError where it is anything else."""
    return str(uuid.UUID(text))
