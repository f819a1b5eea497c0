"""``runs/<run_id>/``: the jobs that belong together, one a line, and how long they are kept."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field, StringConstraints

from medgemma_tasks.models.base import Discreet, JobId, ModelName, Strict


def _is_no_job_id(name: str) -> str:
    if len(name) == 32 and set(name) <= set("0123456789abcdef"):
        raise ValueError("a run must not be named like a job")
    return name


RunId = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$"),
    AfterValidator(_is_no_job_id),
]
"""The name of a run. Never 32 hexadecimal digits, so that it cannot be taken for a job's id."""


class ManifestLine(Discreet):
    """One job of a run. Whoever writes a manifest may add what it needs: other keys are kept, and
    no concern of the queue's."""

    model_config = ConfigDict(extra="allow")

    job: JobId


class RunRecord(Strict):
    """``runs/<run_id>/run.json``: what is to become of what a run leaves."""

    schema_version: Literal[1] = 1
    run: RunId
    model: ModelName
    started_at: AwareDatetime
    worked_at: AwareDatetime
    """When it was last worked at."""
    expire_after_seconds: float | None = Field(default=None, gt=0)
    """After ``worked_at``; None keeps it for ever."""
    max_bytes: int | None = Field(default=None, ge=1)
    """What its jobs may hold; None: whatever it is."""

    def expired(self, now: datetime) -> bool:
        """Whether it is kept no longer."""
        if self.expire_after_seconds is None:
            return False
        return (now - self.worked_at).total_seconds() > self.expire_after_seconds
