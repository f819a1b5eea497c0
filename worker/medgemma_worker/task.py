"""The Celery task: a shard of job ids, run one by one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from celery import Celery, Task
from celery.exceptions import Reject, SoftTimeLimitExceeded

from medgemma_tasks.errors import StoreRefused
from medgemma_tasks.queue import TASK, Shard, publish, queue_names
from medgemma_tasks.settings import Settings
from medgemma_worker import process
from medgemma_worker.board import Board
from medgemma_worker.failures import trace
from medgemma_worker.parent.deaths import WatchedRequest
from medgemma_worker.wrappers.commit import TROUBLE
from medgemma_worker.wrappers.held import RunsElsewhere

log = logging.getLogger(__name__)

PAUSE = 2.0
"""Seconds before a shard goes back to the queue because a part around us is away."""

REFUSED_PAUSE = 15.0
"""The same where the store says no: a person must mend that, or keys are being changed."""

PutBack = Callable[[str], None]
"""Puts one job of a shard, by its id, on the queue that the shard came from."""


def register(app: Celery, settings: Settings, board: Board) -> None:
    """Make the task known to a worker's app; the board shows while it has a shard in hand."""

    @app.task(name=TASK, bind=True, Request=WatchedRequest)
    def explain(self: Task[Any, Any], message: dict[str, Any]) -> None:
        shard = Shard.model_validate(message)
        came_from = (self.request.delivery_info or {}).get("routing_key")
        batch = came_from == queue_names(settings.model)[1]

        def put_back(job_id: str) -> None:
            publish(app, settings, settings.model, [job_id], tenant=shard.tenant, batch=batch)

        with board.working():
            try:
                run_shard(shard, put_back)
            except SoftTimeLimitExceeded:
                # Between two jobs: escaping, it would have the message acknowledged.
                raise Reject("the time limit of a shard", requeue=True) from None
            finally:
                process.current().tidy_up()


def run_shard(shard: Shard, put_back: PutBack) -> None:
    """Run each job of a shard. One job's failure is its own.

    One that comes back after a process died over it is split: each job that has not ended becomes a
    message of its own, so that the one to blame takes no other along again.

    Raises Reject, which puts the message back, when the store or Redis was away for a job, or when
    another worker runs it: jobs that have their mark by then are passed over when it comes again.
    """
    here = process.current()
    here.publish_model()
    runner, pauses, died = here.runner(shard.tenant), list[float](), False
    if len(shard.jobs) > 1:
        with _coming_again("a shard", pauses):
            died = any(map(runner.died, shard.jobs))
    for job_id in () if pauses else shard.jobs:
        with _coming_again(f"job {job_id}", pauses):
            if not died:
                runner.run(job_id)
            elif not runner.finished(job_id):
                put_back(job_id)
    if pauses:
        # The soft limit may end the pause, and not what follows: without it the jobs were lost.
        with suppress(SoftTimeLimitExceeded):
            time.sleep(max(pauses))
        raise Reject("a part is away", requeue=True)
    if died:
        log.warning("a shard of %d jobs was split after a death", len(shard.jobs))


@contextmanager
def _coming_again(what: str, pauses: list[float]) -> Iterator[None]:
    """What raises within is tried again with the whole message; adds the pause before that."""
    try:
        yield
    except TROUBLE as error:
        log.warning("%s: goes back to the queue (%s)", what, error.code)
        pauses.append(REFUSED_PAUSE if isinstance(error, StoreRefused) else PAUSE)
    except RunsElsewhere:
        log.info("%s: runs on another worker, looked at again", what)
        pauses.append(PAUSE)
    except Exception as error:  # noqa: BLE001 - a message must never be lost to a defect
        log.error("%s: goes back to the queue\n%s", what, trace(error))
        pauses.append(PAUSE)
