"""Seconds by stage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medgemma_worker.engine import Explained
    from medgemma_worker.run import Run, Step


class Stopwatch:
    """Adds up the seconds spent in each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time inside towards ``name``."""
        start = time.monotonic()
        try:
            yield
        finally:
            spent = self.seconds.get(name, 0.0) + time.monotonic() - start
            self.seconds[name] = round(spent, 6)


def timed(run: Run, step: Step) -> Explained:
    """A wrapper: how long the job waited for its start, by the clocks of client and worker."""
    waited = (datetime.now(UTC) - run.request.submitted_at).total_seconds()
    run.watch.seconds["waiting"] = round(max(waited, 0.0), 6)
    return step(run)
