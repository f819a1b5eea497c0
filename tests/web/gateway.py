"""A real gateway: `medgemma-explainer serve` in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import psutil

from medgemma_web.keys import add_key
from tests.service.harness import ROOT

HOST = "127.0.0.1"
START_SECONDS = 60.0


class GatewayProcess:
    """It serves at ``port``, with the keys of a file, and ends with the context."""

    def __init__(self, folder: Path, **web: object) -> None:
        """web: its settings, as ``idle_timeout=1``."""
        self.port = free_port()
        self.keys_file = folder / f"keys-{self.port}.json"
        self._log = folder / f"gateway-{self.port}.log"
        self._web = {f"MEDGEMMA_WEB_{name.upper()}": str(value) for name, value in web.items()}
        self._process: subprocess.Popen[bytes] | None = None
        self.ours = self.header("local")

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def header(self, tenant: str, **limits: int) -> dict[str, str]:
        """The header of a new key."""
        token, _ = add_key(self.keys_file, tenant, **limits)  # type: ignore[arg-type]
        return {"Authorization": f"Bearer {token}"}

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30)

    def memory(self) -> int:
        """Bytes that it has in memory."""
        return psutil.Process(self.pid).memory_info().rss

    def most_memory(self) -> int:
        """Most bytes that it ever had in memory."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        folders = [ROOT, *(ROOT / name for name in ("client", "tasks", "web", "cli"))]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, folders)),
            "MEDGEMMA_WEB_KEYS_FILE": str(self.keys_file),
            "MEDGEMMA_WEB_PORT": str(self.port),
            **self._web,
        }
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "medgemma_cli", "serve"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while not answers(self.port):
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.05)
        return self

    def terminate(self) -> None:
        assert self._process is not None
        self._process.terminate()

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def wait(self, seconds: float) -> int:
        assert self._process is not None
        return self._process.wait(seconds)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    @contextmanager
    def connection(self, said: str = "") -> Iterator[socket.socket]:
        """A connection by hand, over which something was sent."""
        with socket.create_connection((HOST, self.port), timeout=60) as connection:
            connection.sendall(said.encode())
            yield connection

    def post(self, *more: str, header: dict[str, str] | None = None) -> str:
        """The head of a question as it goes over the wire."""
        shown = self.ours if header is None else header
        return "\r\n".join(
            [
                "POST /v1/explanations HTTP/1.1",
                f"Host: {HOST}",
                *(f"{name}: {value}" for name, value in shown.items()),
                *more,
                "",
                "",
            ]
        )


def answer(connection: socket.socket) -> bytes:
    """All that comes until the connection is closed."""
    pieces = []
    try:
        while piece := connection.recv(65_536):
            pieces.append(piece)
    except ConnectionResetError:
        pass  # after the answer
    return b"".join(pieces)


def status_of(said: bytes) -> int:
    return int(said.split(b" ", 2)[1])


def free_port() -> int:
    with socket.create_server((HOST, 0)) as server:
        return int(server.getsockname()[1])


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
