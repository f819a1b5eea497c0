"""Counting the starts of a job, so that one that kills its worker does not do so for ever."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from medgemma_tasks.errors import WorkerLost
from medgemma_tasks.live import LiveState


@dataclass(frozen=True)
class Attempt:
    """One start of a job. ``name`` is the folder of its artifacts, and no other attempt's."""

    number: int
    name: str


def start_attempt(live: LiveState, job_id: str, limit: int) -> Attempt:
    """Count a start, just before it. WorkerLost where the job was started ``limit`` times before.

    The counter is in Redis: the transport counts no deliveries. If Redis loses it, the job gets
    ``limit`` more starts.
    """
    number = live.start_attempt(job_id)
    if number > limit:
        raise WorkerLost(
            f"The job was started {limit} times, and each time the process that ran it ended "
            "before it had finished. Submit it again when the cause is known.",
            attempts=limit,
        )
    return Attempt(number, f"{number}-{secrets.token_hex(8)}")
