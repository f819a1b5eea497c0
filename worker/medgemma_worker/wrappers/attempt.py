"""Counting the starts of a job, so that one that kills its worker does not do so for ever."""

from __future__ import annotations

import logging
import secrets

from medgemma_tasks.errors import BrokerUnreachable, WorkerLost
from medgemma_tasks.live import LiveState
from medgemma_tasks.logs import note
from medgemma_tasks.models import Stage
from medgemma_worker.engine import Explained
from medgemma_worker.places import InHand
from medgemma_worker.wrappers.commit import TROUBLE
from medgemma_worker.wrappers.run import Attempt, Run, Step

log = logging.getLogger(__name__)


def uncounted_in_trouble(run: Run, step: Step) -> Explained:
    """A wrapper: a start that comes to no mark, of success or of failure, since a part around us is
    away, is uncounted. That is no fault of the job, and nothing died."""
    try:
        return step(run)
    except TROUBLE:
        if run.attempt is not None:
            give_back(run.around.live, run.job_id, run.attempt.token)
        raise


def counted(run: Run, step: Step) -> Explained:
    """A wrapper: the start is counted, and shown on the board so that a death is known of."""
    around = run.around
    run.attempt = start_attempt(around.live, run.job_id, around.settings.max_attempts)
    note(attempt=run.number)
    log.info("job %s: attempt %d", run.job_id, run.number)

    def hear(stage: Stage, _progress: float) -> None:
        around.board.note_stage(run.job_id, stage)
        note(stage=stage.value)

    run.hearers.append(hear)
    held = InHand(around.live.tenant, run.job_id, run.number, run.attempt.token)
    with around.board.holding(held):
        return step(run)


def start_attempt(live: LiveState, job_id: str, limit: int) -> Attempt:
    """Count a start, just before it. WorkerLost where the job was started ``limit`` times before.

    The counter is in Redis: the transport counts no deliveries. If Redis loses it, the job gets
    ``limit`` more starts.
    """
    token = secrets.token_hex(8)
    try:
        number = live.start_attempt(job_id, token)
    except BrokerUnreachable:
        give_back(live, job_id, token)  # it may be counted, although nobody was told
        raise
    if number > limit:
        deaths = [death.model_dump(mode="json") for death in live.deaths(job_id)]
        raise WorkerLost(
            f"The job was started {limit} times, and each time the process that ran it ended "
            "before it had finished. Requeue it when the cause is known.",
            attempts=limit,
            deaths=deaths,
        )
    return Attempt(number, token)


def give_back(live: LiveState, job_id: str, token: str) -> None:
    """Uncount a start. Never raises: at worst one attempt too many is counted."""
    try:
        live.give_back_attempt(job_id, token)
    except BrokerUnreachable:
        log.warning("job %s: its attempt stays counted", job_id)
