"""What may be chosen of a run, beside its rows."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from medgemma_client.backfill.publishing import LARGEST_SHARD
from medgemma_client.backfill.reading import ROW_SECONDS
from medgemma_tasks.errors import InvalidRequest

IN_FLIGHT = 1000


@dataclass(frozen=True)
class Choices:
    """How a run is done. None of it changes what is asked, so none is part of the run's name."""

    run: str | None = None
    """Its name; None makes one from the manifest's content, the defaults and the model."""
    out: str | os.PathLike[str] | None = None
    """The folder for its files; None: runs/<run>/ where we are."""
    limit: int | None = None
    """Only the first rows of the manifest."""
    resume: bool = True
    """False forgets what the folder knows of the run. What ended in the store stays ended."""
    retry_failed: bool = False
    """Run again what failed or was cancelled, and read again what could not be read."""
    shard: int | None = None
    """Jobs of a message; None takes what the workers say goes fastest."""
    in_flight: int = IN_FLIGHT
    """Most jobs that are submitted and have not ended."""
    processes: int | None = None
    """That read images; None takes one a core."""
    row_seconds: float = ROW_SECONDS
    """That reading a row's images may take."""
    buckets: tuple[str, ...] = ()
    """Whose objects a manifest may name."""
    expire_after: float | None = None
    """Seconds after its end for which what the run leaves in the store is kept by ``purge``."""
    max_bytes: int | None = None
    """What it may leave there; ``purge`` deletes what is over, oldest first."""
    model: str | None = None
    """None: that of the settings."""

    def __post_init__(self) -> None:
        for name in ("limit", "shard", "in_flight", "processes", "max_bytes"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise InvalidRequest(f"{name} must be a whole number from 1.")
        if self.shard is not None and self.shard > LARGEST_SHARD:
            raise InvalidRequest(f"A shard has {LARGEST_SHARD} jobs at most.")
        if self.expire_after is not None and not 0 < self.expire_after < 1e10:
            raise InvalidRequest("expire_after must be a number of seconds above 0.")

    def folder(self, run: str) -> Path:
        return Path("runs", run) if self.out is None else Path(self.out)
