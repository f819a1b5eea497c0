"""A launcher in a process of its own, and fake workers for it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

LAUNCHER = """\
import logging, sys
from medgemma_tasks.queue import queue_settings
from medgemma_tasks.settings import load_settings
from medgemma_worker.supervisor.devices import parse_devices
from medgemma_worker.supervisor.launcher import launch
logging.basicConfig(level=logging.INFO)
assert "torch" not in sys.modules
_, gpus, healthy_after, *command = sys.argv
sys.exit(launch(load_settings(), parse_devices(gpus), command=command,
                healthy_after=float(healthy_after), first_pause=0.05))
"""

REPORT = """\
import json, os, signal, subprocess, sys, time
with open(sys.argv[1], "a") as file:
    seen = {name: os.environ.get(name) for name in
            ("CUDA_VISIBLE_DEVICES", "REMAP_SIGTERM", "MEDGEMMA_DEVICE")}
    file.write(json.dumps({"device": sys.argv[2], "pid": os.getpid(), **seen}) + "\\n")
"""
LIVE = REPORT + "time.sleep(600)\n"
FAIL = REPORT + "sys.exit(3)\n"
FAIL_ON_GPU_0 = REPORT + "sys.exit(3) if sys.argv[2] == 'gpu-0' else time.sleep(600)\n"
CANNOT_LOAD = REPORT + "time.sleep(0.3); sys.exit(78)\n"
CANNOT_LOAD_ON_GPU_0 = REPORT + "sys.exit(78) if sys.argv[2] == 'gpu-0' else time.sleep(600)\n"
TELLS = """\
from datetime import UTC, datetime
import socket
from medgemma_tasks import workers
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import WorkerHealth, WorkerState
from medgemma_tasks.settings import load_settings
def tell(state):
    now = datetime.now(UTC)
    name = f"{sys.argv[2]}@{socket.gethostname()}"
    health = WorkerHealth(name=name, host="here", pid=os.getpid(), model="phantom", device="cpu",
                          state=WorkerState(state), since=now, started_at=now)
    with LiveState(load_settings()).connected() as redis:
        workers.say(redis, health, 60)
"""
SAYS = (
    REPORT + TELLS + "signal.signal(signal.SIGTERM, lambda *_: os._exit(int(sys.argv[4])))\n"
    "tell(sys.argv[3]); time.sleep(600)\n"
)
"""A worker that says how it is, and ends with a status when it is told to."""
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + LIVE
WITH_POOL = (
    "import subprocess, sys\n"
    "pool = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    "sys.argv[2] += f'/{pool.pid}'\n" + LIVE
)

THREE_GPUS = """\
GPU 0: NVIDIA H200 (UUID: GPU-0)
GPU 1: NVIDIA H200 (UUID: GPU-1)
  MIG 1g.18gb     Device  0: (UUID: MIG-1-0)
GPU 2: NVIDIA H200 (UUID: GPU-2)"""


class Supervisor:
    """A launcher process and what its workers reported."""

    def __init__(self, report: Path) -> None:
        self.report = report
        self.process: subprocess.Popen[str] | None = None
        self._output = report.with_suffix(".log")

    def start(
        self,
        gpus: str,
        worker: str,
        healthy_after: float = 0.0,
        arguments: tuple[str, ...] = (),
        **environment: str,
    ) -> None:
        command = [sys.executable, "-c", worker, str(self.report), "{device}", *arguments]
        with self._output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", LAUNCHER, gpus, str(healthy_after), *command],
                stdout=output,
                stderr=output,
                text=True,
                env={**os.environ, **environment},
            )

    @property
    def running(self) -> subprocess.Popen[str]:
        assert self.process is not None
        return self.process

    def workers(self, at_least: int) -> list[dict[str, Any]]:
        """The reports, once there are so many."""
        wait_for(lambda: len(self._lines()) >= at_least)
        return [json.loads(line) for line in self._lines()]

    def ends_with(self) -> tuple[int, str]:
        return self.running.wait(60), self._output.read_text()

    def log_says(self, words: str) -> None:
        wait_for(lambda: words in self._output.read_text())

    def _lines(self) -> list[str]:
        if not self.report.exists():
            return []
        return [line for line in self.report.read_text().splitlines(True) if line.endswith("\n")]


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(tmp_path / "report.jsonl")
    yield supervisor
    process = supervisor.process
    if process is None:
        return
    if process.poll() is None:
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # the launcher was quicker
                child.kill()
    process.kill()
    process.wait()
