"""A worker with the phantom model, as a process of its own that ends with us."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from medgemma_tasks.errors import ModelLoadFailed

START_SECONDS = 180.0
"""How long the worker may take to load the model."""

STOP_SECONDS = 45.0
"""How long it may take to stop, before it is told to stop at once."""


class EmbeddedWorker:
    """A worker on the CPU, of the service that the environment names, as a context manager.

    It loads the model while its caller goes on: see ``ready``.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._exit = ExitStack()

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def __enter__(self) -> Self:
        from medgemma_worker.supervisor.tied import tied_to_parent

        log = self._exit.enter_context(self._log.open("w"))
        self._process = subprocess.Popen(
            # Tied, so that it ends even where we are killed.
            tied_to_parent([sys.executable, "-m", "medgemma_cli", "worker", "--gpus", "cpu"]),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # a Ctrl-C reaches us alone, and we stop it in order
        )
        return self

    def ready(self) -> None:
        """Wait until the worker has published its model. Raises ModelLoadFailed."""
        from medgemma_tasks.layout import model_key
        from medgemma_tasks.settings import load_settings
        from medgemma_tasks.store import Store

        store = Store(load_settings())
        deadline = time.monotonic() + START_SECONDS
        while not store.exists(model_key("phantom")):
            if not self.alive or time.monotonic() > deadline:
                end = self._log.read_text(errors="replace").strip().splitlines()[-3:]
                raise ModelLoadFailed(
                    f"The worker did not get ready; see {self._log}, which ends: {' | '.join(end)}"
                )
            time.sleep(0.2)

    def __exit__(self, *error: object) -> None:
        process, self._process = self._process, None
        with self._exit:
            if process is None:
                return
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.terminate()  # the second one stops at once
                process.wait(STOP_SECONDS)
