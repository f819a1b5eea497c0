"""A worker with the phantom model, which has words to explain."""

from __future__ import annotations

from pathlib import Path

from medgemma_tasks.settings import Settings
from tests.service.harness import WorkerProcess


class PhantomWorker(WorkerProcess):
    """The real engine in place of the stub."""

    def __init__(self, folder: Path) -> None:
        engine = Settings.model_fields["engine"].default
        super().__init__(folder, MEDGEMMA_ENGINE=engine, OMP_NUM_THREADS="1")
