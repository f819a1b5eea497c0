"""What all models share: strictness, the alphabets of names, and where a job stands."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

SCHEMA_VERSION = 2
"""Version of request.json and result.json. Readers know this one and the one before it: see
``medgemma_tasks.versions``."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
JobId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Tenant = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$")]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class Strict(BaseModel):
    """Frozen, and unknown fields are an error: a typo must not pass as a default."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


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
