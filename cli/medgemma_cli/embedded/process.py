"""A server program of ours: on a free loopback port, tied to its parent, stopped by its pid."""

from __future__ import annotations

import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from medgemma_client.vanishing import vanishing_folder
from medgemma_tasks.errors import ServiceError
from medgemma_worker.supervisor.tied import tied_to_parent

HOST = "127.0.0.1"

START_SECONDS = 20.0
"""Longest wait until a server answers."""

STOP_SECONDS = 5.0
"""Longest wait between asking a server to stop and killing it."""

PORT_TRIES = 5
"""A port that was free a moment ago may be taken when the server binds it."""


def free_port() -> int:
    """A TCP port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True, repr=False)
class Launch:
    """How a server program is started. Credentials go by ``env`` or ``stdin``, never ``command``:
    every user of the machine can read a command line."""

    command: Sequence[str]
    env: Mapping[str, str]
    stdin: str = field(default="", repr=False)


class EmbeddedServer(ABC):
    """A server over a folder, as a context manager.

    ``start`` after ``stop`` or ``kill`` brings it back on the same port and folder, which is how
    tests let it fail. The folder is removed when the context or this process ends, also by a
    SIGKILL, unless it was given: what was asked of a demo lies in it.

    A server dies with the thread that started it (Linux ties it to that thread), so start it from
    a thread that lives as long as it is needed.
    """

    name: ClassVar[str]
    error: ClassVar[type[ServiceError]]

    def __init__(self, folder: Path | None = None) -> None:
        self._given = folder
        self._temporary = ExitStack()
        self._folder: Path | None = None
        self._process: subprocess.Popen[str] | None = None
        self._port = 0

    @abstractmethod
    def _launch(self, folder: Path, port: int) -> Launch:
        """How to start the program over a folder on a port."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether the server answers a request with our credentials."""

    @abstractmethod
    def _secrets(self) -> Sequence[str]:
        """What must not be quoted from the server's log."""

    @property
    def port(self) -> int:
        """The loopback port, 0 before the first start."""
        return self._port

    @property
    def pid(self) -> int | None:
        """The server's process, None when it is not running."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    @property
    def folder(self) -> Path:
        """Where the server keeps its data; it exists from the first start on."""
        if self._given is not None:
            self._given.mkdir(parents=True, exist_ok=True)
            return self._given
        if self._folder is None:
            folder = vanishing_folder(f"medgemma-{self.name}-")
            self._folder = self._temporary.enter_context(folder)
        return self._folder

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises PartMissing when its program is not installed, and BrokerUnreachable or
        StoreUnreachable with the end of its log when it does not come up.
        """
        if self.pid is not None:
            return
        for _ in range(PORT_TRIES):
            port = self._port or free_port()
            if self._try(port):
                return
        raise self.error(
            f"The embedded {self.name} server ended as it started. {self._log_tail()}",
            part=self.name,
        )

    def stop(self) -> None:
        """Ask the server to end, kill it after STOP_SECONDS; nothing happens if it is gone."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """End the server as a crash would: SIGKILL, no goodbye."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def close(self) -> None:
        """Stop the server and remove its temporary folder."""
        try:
            self.stop()
        finally:
            self._folder = None
            self._temporary.close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def _log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def _try(self, port: int) -> bool:
        """Start on a port; False when the program ended before it answered."""
        launch = self._launch(self.folder, port)
        with self._log.open("w", encoding="utf-8") as log:
            process = subprocess.Popen(
                tied_to_parent(launch.command),
                env=dict(launch.env),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,  # a Ctrl-C is for the parent, which then stops us in order
            )
        self._process = process
        previous, self._port = self._port, port
        try:
            self._feed(process, launch.stdin)
            if self._wait(process):
                return True
        except BaseException:
            self.kill()
            raise
        self._process, self._port = None, previous
        return False

    @staticmethod
    def _feed(process: subprocess.Popen[str], text: str) -> None:
        assert process.stdin is not None  # noqa: S101 - it was opened as a pipe
        try:
            with process.stdin as stdin:
                stdin.write(text)
        except BrokenPipeError:
            pass  # it ended already: _wait says so

    def _wait(self, process: subprocess.Popen[str]) -> bool:
        deadline = time.monotonic() + START_SECONDS
        while process.poll() is None:
            # Another's server on this port would not know our credentials.
            if self._answers() and process.poll() is None:
                return True
            if time.monotonic() > deadline:
                raise self.error(
                    f"The embedded {self.name} server did not answer within {START_SECONDS:.0f} s. "
                    f"{self._log_tail()}",
                    part=self.name,
                )
            time.sleep(0.02)
        return False

    def _log_tail(self, lines: int = 5) -> str:
        if not self._log.exists():
            return "It left no log."
        text = self._log.read_text(encoding="utf-8", errors="replace")
        for secret in self._secrets():
            text = text.replace(secret, "***")
        return "Its log ends: " + " | ".join(text.strip().splitlines()[-lines:])
