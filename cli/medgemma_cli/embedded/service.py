"""A whole service for a notebook: started in one cell, and stopped in another."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Self

from medgemma_cli.embedded.stack import EmbeddedStack
from medgemma_cli.embedded.worker import EmbeddedWorker
from medgemma_client.vanishing import vanishing_folder


class EmbeddedService:
    """While it runs, the environment leads every client of this process to it.

    What it started ends with it, and with this process, however that ends: a notebook whose kernel
    is killed leaves no server and no file.
    """

    def __init__(self) -> None:
        self._running = ExitStack()

    def start(self) -> Self:
        """Start all of it; it returns when the model is loaded. Raises PartMissing,
        BrokerUnreachable, StoreUnreachable and ModelLoadFailed, and then nothing runs."""
        with ExitStack() as started:
            folder = started.enter_context(vanishing_folder("medgemma-worker-"))
            stack = started.enter_context(EmbeddedStack())
            here = {**stack.environment(), "MEDGEMMA_MODEL": "phantom"}
            started.enter_context(_environment(here))
            started.enter_context(EmbeddedWorker(folder / "worker.log")).ready()
            self._running = started.pop_all()
        return self

    def stop(self) -> None:
        """Stop what was started; nothing happens where nothing was."""
        self._running.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment less what the user has set for services of their own."""
    ours = ("MEDGEMMA_", "AWS_")
    return {name: value for name, value in environment.items() if not name.startswith(ours)}


@contextmanager
def _environment(here: Mapping[str, str]) -> Iterator[None]:
    """These variables, and none that are set for services of the user's own."""
    before = dict(os.environ)
    _become({**without_settings(before), **here})
    try:
        yield
    finally:
        _become(before)


def _become(environment: Mapping[str, str]) -> None:
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)
