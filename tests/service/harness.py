"""A real worker in processes of its own, with the stub engine, over real Redis and S3."""

from __future__ import annotations

import base64
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import redis

from medgemma_client.client import Client
from medgemma_client.job import Job
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import Stage
from medgemma_tasks.settings import Settings
from medgemma_tasks.store import Store
from tests.parts import picture
from tests.privacy.watching import memory

START_SECONDS = 60.0
ROOT = Path(__file__).resolve().parents[2]


class WorkerProcess:
    """One worker, parent and child, in its own process group. It dies with the context."""

    command: tuple[str, ...] = ("-m", "medgemma_worker.app")

    def __init__(self, folder: Path, name: str = "worker", **environment: str) -> None:
        self.log_path = folder / f"{name}.log"
        self.ledger_path = folder / "ledger"
        self.environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    @property
    def gate(self) -> Path:
        """Once this file is there, jobs whose prompt has "gate" go on, now and from then on."""
        return self.ledger_path.with_name(f"{self.ledger_path.name}.gate")

    def starts(self, job: Job) -> int:
        """How often the engine was started for a job, by any worker that shares the folder."""
        return len(self.started(job))

    def started(self, job: Job) -> list[int]:
        """When it was started for a job: places in the order of all that happened."""
        return [k for k, line in enumerate(self._lines()) if line.startswith(f"start {job.id}")]

    @property
    def loads(self) -> int:
        """How often the engine was loaded, by any worker that shares the folder."""
        return sum(line.startswith("load ") for line in self._lines())

    def child_of(self, job: Job) -> int:
        """The process that started a job last."""
        # A worker tells that it generates a moment before the engine writes that it starts.
        until(lambda: self.started(job), 30.0)
        return int(self._lines()[self.started(job)[-1]].split()[2])

    def holds(self, job: Job) -> bool:
        """Whether it was a child of this worker that started a job last, and is alive."""
        try:
            return psutil.Process(self.child_of(job)).ppid() == self.pid
        except psutil.NoSuchProcess:
            return False

    def spawn(self) -> None:
        folders = [ROOT, *(ROOT / name for name in ("client", "tasks", "worker", "cli"))]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, folders)),
            "MEDGEMMA_ENGINE": "tests.stub_engine:load",
            "STUB_LEDGER": str(self.ledger_path),
            **self.environment,
        }
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *self.command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @contextmanager
    def spawned(self) -> Iterator[Self]:
        """Start without waiting until it serves."""
        self.spawn()
        try:
            yield self
        finally:
            self.__exit__(None, None, None)

    def __enter__(self) -> Self:
        self.spawn()
        self.ready()
        return self

    def ready(self) -> None:
        """Wait until it serves."""
        until(lambda: "serving" in self.log, START_SECONDS, lambda: self.log)

    def wait(self, timeout: float) -> int:
        assert self._process is not None
        return self._process.wait(timeout)

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def signal_all(self, number: int) -> None:
        """A signal for the whole process group: parent, child and reconciler."""
        os.killpg(self.pid, number)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process is not None
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def _lines(self) -> list[str]:
        return self.ledger_path.read_text().splitlines() if self.ledger_path.exists() else []


@contextmanager
def together(*workers: WorkerProcess) -> Iterator[None]:
    """Workers that start beside each other."""
    with ExitStack() as stack:
        for worker in workers:
            stack.enter_context(worker.spawned())
        for worker in workers:
            worker.ready()
        yield


class Service:
    """What a test sees: a client, the ledger and Redis behind it, and a worker."""

    def __init__(self, settings: Settings, worker: WorkerProcess) -> None:
        self.settings = settings
        self.worker = worker
        self.client = Client(settings)
        self.live = LiveState(settings)
        self.ledger = Ledger(Store(settings), self.live)
        self.redis = redis.Redis.from_url(settings.broker_url.get_secret_value())

    def ask(self, prompt: str, **options: object) -> Job:
        return self.client.submit(picture(), prompt, **options)  # type: ignore[arg-type]

    def running(self, job: Job) -> None:
        """Wait until the engine has the job."""
        until(lambda: job.status().stage in (Stage.GENERATING, Stage.EXPLAINING), 60.0)

    def dump(self) -> str:
        """All that Redis holds, as text; the bodies of messages, which are base64, in the clear."""
        found = memory(self.redis)
        bodies = re.findall(rb'body[\\"]+: [\\"]+([A-Za-z0-9+/=]+)', found)
        return (found + b"".join(map(base64.b64decode, bodies))).decode(errors="replace")


def until(
    condition: Callable[[], object], seconds: float, note: Callable[[], str] = lambda: ""
) -> None:
    """Wait for a condition; AssertionError, with a note, where it does not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s\n{note()}"
        time.sleep(0.02)
