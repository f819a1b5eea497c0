"""What workers and Redis say of themselves and of a job under way."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from medgemma_tasks.models.base import Fraction, JobId, ModelName, Stage, State, Strict
from medgemma_tasks.models.record import ErrorRecord


class ServedModel(Strict):
    """``models/<name>.json``: what the workers of a model hold. Clients put it into job ids."""

    schema_version: Literal[1] = 1
    name: ModelName
    revision: str
    method: str
    method_version: str
    max_context_tokens: int
    tokens_per_image: int
    max_new_tokens: int


class Live(Strict):
    """The live state of a job in Redis. It may vanish at any time; the store is the truth."""

    stage: Stage
    progress: Fraction
    attempt: int


class Death(Strict):
    """What was known of a process that died over a job. A whole worker that dies says nothing."""

    attempt: int = Field(ge=1)
    at: datetime
    worker: str
    signal: str | None = None
    """SIGKILL and its kin, where a signal ended it."""
    exit_status: int | None = None
    """Where it ended by itself."""
    reason: Literal["died", "time_limit"] = "died"
    """``time_limit``: it ran into the hard limit, and was killed."""
    stage: Stage | None = None
    memory_bytes: int | None = None
    """The most memory (resident, without the device's) that the process was seen with."""


class Status(Strict):
    """What ``Job.status`` answers."""

    job_id: JobId
    state: State
    stage: Stage | None = None
    progress: Fraction = 0.0
    attempt: int = 0
    error: ErrorRecord | None = None
