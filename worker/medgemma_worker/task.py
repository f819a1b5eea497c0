"""The Celery task: a shard of job ids, run side by side."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from celery import Celery, Task
from celery.exceptions import Reject, SoftTimeLimitExceeded

from medgemma_tasks.jitter import jittered
from medgemma_tasks.queue import TASK, Shard, queue_names
from medgemma_tasks.settings import Settings
from medgemma_worker import process
from medgemma_worker.board import Board
from medgemma_worker.parent.deaths import WatchedRequest


def register(app: Celery, settings: Settings, board: Board) -> None:
    """Make the task known to a worker's app; the board shows while it has a shard in hand."""

    @app.task(name=TASK, bind=True, Request=WatchedRequest)
    def explain(self: Task[Any, Any], message: dict[str, Any]) -> None:
        shard = Shard.model_validate(message)
        came_from = (self.request.delivery_info or {}).get("routing_key")
        with board.working():
            try:
                run_shard(shard, batch=came_from == queue_names(settings.model)[1])
            except SoftTimeLimitExceeded:
                # Between two jobs: escaping, it would have the message acknowledged.
                raise Reject("the time limit of a shard", requeue=True) from None
            finally:
                process.current().tidy_up()


def run_shard(shard: Shard, *, batch: bool) -> None:
    """Run the jobs of a shard. One job's failure is its own. ``batch``: it is of that queue.

    Raises Reject, which puts the message back, when the store or Redis was away for a job, or when
    another worker runs it: jobs that have their mark by then are passed over when it comes again.
    """
    here = process.current()
    here.publish_model()
    delivery = here.delivery(shard, batch=batch)
    delivery.split()
    here.serve(delivery, batch=batch)
    if delivery.pauses:
        # The soft limit may end the pause, and not what follows: without it the jobs were lost.
        with suppress(SoftTimeLimitExceeded):
            time.sleep(jittered(max(delivery.pauses)))
        raise Reject("a part is away", requeue=True)
