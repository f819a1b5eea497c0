"""Workers in processes of their own, as many as are asked for; and what CPU the parts take."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from medgemma_cli.embedded import EmbeddedStack
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import WorkerState
from medgemma_tasks.settings import load_settings
from medgemma_tasks.workers import workers

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 60.0
SECONDS_EACH = 3.0
"""A worker may take START_SECONDS to be ready, and each further one so many more: while they start
they have one machine for them all."""


def paths() -> str:
    """PYTHONPATH of a worker: the packages and, for engines of benchmarks, the root."""
    return os.pathsep.join(
        str(folder) for folder in (ROOT, *(ROOT / n for n in ("client", "tasks", "worker", "cli")))
    )


class Fleet:
    """Workers of one model. Each is a process group of its own, killed when the context ends."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self._folder = folder
        self._environment = environment
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for process in self._processes:
            process.wait()

    def __len__(self) -> int:
        return len(self._processes)

    def grow(self, count: int) -> float:
        """Start workers until there are so many, and wait until all are ready; seconds taken."""
        began = time.monotonic()
        while len(self) < count:
            self._spawn(f"worker-{len(self)}")
        limit = START_SECONDS + SECONDS_EACH * count
        while self._ready() < count:
            self._look()
            if time.monotonic() > began + limit:
                raise SystemExit(f"{self._ready()} of {count} workers were ready in {limit:.0f} s")
            time.sleep(0.2)
        return time.monotonic() - began

    def parents(self) -> list[int]:
        return [process.pid for process in self._processes]

    def children(self) -> list[int]:
        return [
            child.pid
            for pid in self.parents()
            for child in psutil.Process(pid).children(recursive=True)
        ]

    def _spawn(self, name: str) -> None:
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "medgemma_worker.app", name],
                    env={**os.environ, "PYTHONPATH": paths(), **self._environment},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )

    def _ready(self) -> int:
        with LiveState(load_settings()).connected() as redis:
            return sum(one.state is WorkerState.READY for one in workers(redis))

    def _look(self) -> None:
        """SystemExit with the end of its log where a worker is gone: none may be."""
        for number, process in enumerate(self._processes):
            if process.poll() is not None:
                log = (self._folder / f"worker-{number}.log").read_text(errors="replace")
                raise SystemExit(f"worker {number} ended with {process.returncode}\n{log[-2000:]}")


class Spent:
    """CPU seconds of groups of processes, and of all that runs on this machine (``machine``), since
    it was made."""

    def __init__(self, **groups: Iterable[int]) -> None:
        self._groups = {name: list(pids) for name, pids in groups.items()}
        self._began = time.monotonic()
        self._before = self._now()

    def since(self) -> tuple[float, dict[str, float]]:
        """Seconds that passed, and CPU seconds by group."""
        now = self._now()
        spent = {name: now[name] - self._before[name] for name in now}
        return time.monotonic() - self._began, spent

    def _now(self) -> dict[str, float]:
        times = psutil.cpu_times()
        spent = {name: sum(map(_cpu, pids)) for name, pids in self._groups.items()}
        return {**spent, "machine": sum(times) - times.idle - times.iowait}


def of_all(fleet: Fleet, stack: EmbeddedStack) -> Spent:
    """CPU of the parents and children of a fleet, of both servers, and of this process."""
    return Spent(
        parents=fleet.parents(),
        children=fleet.children(),
        redis=[stack.redis.pid],
        s3=[stack.s3.pid],
        here=[os.getpid()],
    )


def _cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)
