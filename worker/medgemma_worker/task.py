"""The Celery task: a shard of job ids, run one by one."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import Any

from celery import Celery, Task
from celery.exceptions import Reject, SoftTimeLimitExceeded

from medgemma_tasks.errors import StoreRefused
from medgemma_tasks.queue import TASK, Shard
from medgemma_worker import process
from medgemma_worker.commit import TROUBLE
from medgemma_worker.failures import trace
from medgemma_worker.shutdown import Flags

log = logging.getLogger(__name__)

PAUSE = 2.0
"""Seconds before a shard goes back to the queue because a part around us is away."""

REFUSED_PAUSE = 15.0
"""The same where the store says no: a person must mend that, or keys are being changed."""


def register(app: Celery, flags: Flags) -> None:
    """Make the task known to a worker's app; ``flags`` show while it has a shard in hand."""

    @app.task(name=TASK, bind=True)
    def explain(self: Task[Any, Any], message: dict[str, Any]) -> None:
        with flags.working():
            run_shard(Shard.model_validate(message))


def run_shard(shard: Shard) -> None:
    """Run each job of a shard. One job's failure is its own.

    Raises Reject, which puts the message back, when the store or Redis was away for a job: jobs
    that have their mark by then are passed over when it comes again.
    """
    here = process.current()
    here.publish_model()
    runner, pauses = here.runner(shard.tenant), list[float]()
    for job_id in shard.jobs:
        try:
            runner.run(job_id)
        except TROUBLE as error:
            log.warning("job %s: goes back to the queue (%s)", job_id, error.code)
            pauses.append(REFUSED_PAUSE if isinstance(error, StoreRefused) else PAUSE)
        except Exception as error:  # noqa: BLE001 - a message must never be lost to a defect
            log.error("job %s: goes back to the queue\n%s", job_id, trace(error))
            pauses.append(PAUSE)
    if pauses:
        # The soft limit may end the pause, and not what follows: without it the jobs were lost.
        with suppress(SoftTimeLimitExceeded):
            time.sleep(max(pauses))
        raise Reject("a part is away", requeue=True)
