"""The Celery task: a shard of job ids, run one by one."""

from __future__ import annotations

import logging
import time
from typing import Any

from celery import Celery, Task
from celery.exceptions import Reject
from pydantic import ValidationError

from medgemma_tasks.queue import TASK, Shard
from medgemma_worker import process
from medgemma_worker.failures import trace
from medgemma_worker.job import TROUBLE
from medgemma_worker.shutdown import Flags

log = logging.getLogger(__name__)

PAUSE = 2.0
"""Seconds before a shard goes back to the queue because a part around us is away."""


def register(app: Celery, flags: Flags) -> None:
    """Make the task known to a worker's app; ``flags`` show while it has a shard in hand."""

    @app.task(name=TASK, bind=True)
    def explain(self: Task[Any, Any], *args: Any, **kwargs: Any) -> None:
        # Any arguments are taken: a wrong message must be seen here, and counted as such.
        shard = read_shard(args, kwargs)
        if shard is not None:
            with flags.working():
                run_shard(shard)


def read_shard(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Shard | None:
    """The shard that a message holds, or None (and a line in the log) where it holds none."""
    try:
        (message,) = args
        if kwargs:
            raise ValueError
        return Shard.model_validate(message)
    except (ValidationError, ValueError):
        # Nothing of the message is quoted: it can be anything.
        log.error("a message that is no shard of jobs was dropped")
        return None


def run_shard(shard: Shard) -> None:
    """Run each job of a shard. One job's failure is its own.

    Raises Reject, which puts the message back, when the store or Redis was away for a job: jobs
    that have their mark by then are passed over when it comes again.
    """
    here = process.current()
    here.publish_model()
    runner, again = here.runner(shard.tenant), False
    for job_id in shard.jobs:
        try:
            runner.run(job_id)
        except TROUBLE as error:
            log.warning("job %s: goes back to the queue (%s)", job_id, error.code)
            again = True
        except Exception as error:  # noqa: BLE001 - a message must never be lost to a defect
            log.error("job %s: goes back to the queue\n%s", job_id, trace(error))
            again = True
    if again:
        time.sleep(PAUSE)
        raise Reject("a part is away", requeue=True)
