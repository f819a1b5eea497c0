"""What all models share: strictness, the alphabets of names, and where a job stands."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

SCHEMA_VERSION = 2
"""Version of request.json and result.json. Readers know this one and the one before it: see
``medgemma_tasks.versions``."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
JobId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Tenant = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._]|-[A-Za-z0-9._])*"
ModelName = Annotated[str, StringConstraints(pattern=rf"^{_PART}(?:/{_PART})*$", max_length=128)]
"""No "--": in keys and queues it stands for "/", and two names must not share them."""
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


_SHOWN = frozenset(
    {"job_id", "job", "jobs", "tenant", "state", "stage", "progress", "attempt", "kind", "role"}
)
"""Fields that a repr may show: ids, and words of ours."""


class Discreet(BaseModel):
    """Neither its repr nor an error of its validation quotes what a field holds: a prompt, an
    answer or a keyword is patient data, and either of the two ends up in some log."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False, hide_input_in_errors=True)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        return [(name, value) for name, value in super().__repr_args__() if name in _SHOWN]


class Strict(Discreet):
    """Frozen, and unknown fields are an error: a typo must not pass as a default."""

    model_config = ConfigDict(extra="forbid")


class State(StrEnum):
    """Where a job stands. The last three are terminal."""

    SUBMITTED = "submitted"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        return self in (State.SUCCEEDED, State.FAILED, State.CANCELLED)


class Stage(StrEnum):
    """What a running job is doing."""

    LOADING = "loading"
    GENERATING = "generating"
    EXPLAINING = "explaining"
    STORING = "storing"
