"""What workers and Redis say of themselves and of a job under way."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import Field

from medgemma_tasks.models.base import (
    Discreet,
    Fraction,
    JobId,
    ModelName,
    Stage,
    State,
    Strict,
    Tenant,
)
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


class WorkerState(StrEnum):
    """How a worker is."""

    STARTING = "starting"
    """Its child has no model yet. It may hold a message already."""
    READY = "ready"
    """It has no job, and asks the queue for one."""
    BUSY = "busy"
    DRAINING = "draining"
    """It was taken out: it takes no further message, and finishes what it has in hand. A reader of
    an older version, which does not know this word, takes the worker for one that is not there."""
    STOPPING = "stopping"
    """It was told to stop, and finishes its job or gives it back."""
    SETUP_FAILED = "setup failed"
    """Its model cannot be loaded, and it has ended."""
    DEFUNCT = "defunct"
    """It is there, and serves nobody: its child is silent, or the queue does not answer it."""

    @property
    def serves(self) -> bool:
        return self in (WorkerState.READY, WorkerState.BUSY)

    @property
    def lives(self) -> bool:
        """Whether there is a worker. One whose setup failed has ended."""
        return self is not WorkerState.SETUP_FAILED


class WorkersJob(Strict):
    """The job that a worker works on."""

    tenant: Tenant
    job_id: JobId
    attempt: int = Field(ge=1)
    stage: Stage | None = None


class WorkerHealth(Discreet):
    """What a worker says of itself in Redis, every few seconds. Fields that a newer version added
    are passed over."""

    schema_version: Literal[1] = 1
    name: str = Field(min_length=1, max_length=256)
    """Its node's name: ``<device>@<host>`` under a supervisor."""
    host: str = Field(max_length=256)
    model: ModelName
    device: str = Field(max_length=256)
    """What CUDA_VISIBLE_DEVICES shows it, or ``cpu``."""
    pid: int
    """Of the parent, which leads the worker's process group."""
    state: WorkerState
    since: datetime
    """When state and job became what they are."""
    job: WorkersJob | None = None
    done: int = Field(default=0, ge=0)
    """Jobs that ended here, in whatever state."""
    beat_seconds: float | None = None
    """Since its child's main thread last said that it lives; None before that."""
    poll_seconds: float | None = None
    """Since the queue last answered it; None before that. One that is busy does not ask."""
    rate: float | None = Field(default=None, gt=0)
    """Jobs a second, measured while it was busy; None before that."""
    shard: int | None = Field(default=None, ge=1)
    """How many jobs in one batch it found to go fastest; None before it tried."""
    started_at: datetime
    bulk_first: bool = False
    """Whether it serves the batch queue first, as one of several of its model does."""
    drained: bool = False
    """Whether it was taken out, and holds no message any more."""
    post: str = Field(default="", max_length=64)
    """What it has in common with those that its supervisor starts in its place; empty in a worker
    of a version that takes no orders."""


class Status(Strict):
    """What ``Job.status`` answers."""

    job_id: JobId
    state: State
    stage: Stage | None = None
    progress: Fraction = 0.0
    attempt: int = 0
    error: ErrorRecord | None = None
    ahead: int | None = None
    """Jobs on the queue that go first, as workers told of late. None where nobody told: the job is
    not on the queue, thousands go first, or there is no worker."""
