"""What the run runs: private Redis and S3, a proxy before each, and the workers, kept alive."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from unittest import mock

import boto3
import psutil
import redis
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from medgemma_cli.embedded import EmbeddedStack
from medgemma_tasks.settings import Settings, load_settings
from tests.faults.chaos.plan import VISIBILITY_TIMEOUT, worker_name
from tests.faults.proxy import HOST, Proxy
from tests.faults.s3_proxy import S3Proxy
from tests.service.harness import WorkerProcess, until

MAX_ATTEMPTS = 6
"""Starts of a job. A fault hits a job that runs with a chance of some 5%, so that an honest one has
all six spoilt once in sixty million; a poison job dies six times, which costs it seconds."""

SHUTDOWN_GRACE = 2
"""Seconds."""

START_SECONDS = 60.0
"""For all workers at once, on a busy machine."""

ORPHANS_END = 45.0
"""Seconds in which the workers of a supervisor that is gone must have ended: their grace, and what
they wait for a Redis that hangs."""


class Worker:
    """One worker, and who starts it again whenever it has ended."""

    devices = 1
    given_up = 0
    """Of its devices, how often one was."""

    def __init__(
        self,
        folder: Path,
        number: int,
        name: str | None = None,
        process: type[WorkerProcess] = WorkerProcess,
    ) -> None:
        self.name = name or worker_name(number)
        self.temporary = folder / f"{self.name}-tmp"
        self.temporary.mkdir()
        self.process = process(
            folder,
            self.name,
            TMPDIR=str(self.temporary),
            MEDGEMMA_VISIBILITY_TIMEOUT=str(VISIBILITY_TIMEOUT),
            MEDGEMMA_SHUTDOWN_GRACE=str(SHUTDOWN_GRACE),
            MEDGEMMA_MAX_ATTEMPTS=str(MAX_ATTEMPTS),
        )
        self.wanted = True
        """False from when the run kills it, until it is started again."""
        self.ending = False
        """Whether it was told to end."""
        self.fine = {0}
        """The statuses with which it may end when it is told to."""
        self.family: list[psutil.Process] = []
        """What was there when it was told to end, and is to end with it."""
        self.spawns = 0

    def spawn(self) -> None:
        self.wanted, self.ending, self.fine = True, False, {0}
        self.spawns += 1
        self.process.spawn()

    def ended(self) -> int | None:
        """Its exit status, or None while it lives."""
        with suppress(subprocess.TimeoutExpired):
            return self.process.wait(0)
        return None

    @property
    def serving(self) -> bool:
        """Whether it has been ready at least once, on each device."""
        return "serving" in self.process.log

    def leaders(self) -> list[int]:
        """The processes that take messages, and start those that run jobs: one a device."""
        return [self.process.pid]

    def children(self) -> list[int]:
        """The processes that run jobs: one a device, or none just now."""
        return self._started(beside=False)

    def lanes(self) -> dict[str, list[int]]:
        """The same by what must be heard to take jobs in the end: each device."""
        return {self.name: self.children()}

    def descendants(self) -> list[psutil.Process]:
        """All that it or its own started. Those of a lone worker end as its group is signalled."""
        return []

    def reconcilers(self) -> list[int]:
        """What reconciles beside it: one, or none just now."""
        return self._started(beside=True)

    def _started(self, *, beside: bool) -> list[int]:
        module = "medgemma_worker.supervisor.beside"
        try:
            found = psutil.Process(self.process.pid).children()
            alive = [p for p in found if p.status() != psutil.STATUS_ZOMBIE]
            return [p.pid for p in alive if (module in p.cmdline()) == beside]
        except psutil.Error:
            return []

    def signal(self, number: int) -> None:
        """To all its processes, its reconciler's included."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def tell_to_end(self, fine: Iterable[int] = (0,)) -> None:
        """``fine``: the statuses with which it may end."""
        self.ending, self.fine = True, set(fine)
        self.family = self.descendants()
        self.process.terminate()

    def kill(self) -> None:
        self.wanted = False
        self.signal(signal.SIGKILL)
        self.process.wait(10.0)


class Fleet:
    """A context: all of it runs in it, and nothing of it afterwards. Clients in this process find
    it by the environment. To be entered by the main thread, with which the servers end."""

    def __init__(
        self, folder: Path, workers: int, conditional: bool, kind: type[Worker] = Worker
    ) -> None:
        self.folder = folder
        self.conditional = conditional
        self.stack = EmbeddedStack(folder / "parts")
        self.workers = [kind(folder, number) for number in range(workers)]
        self.by_themselves: list[str] = []
        """Workers that ended though nobody had told them to."""
        self.badly: list[str] = []
        """Those that were told to end, and ended with a status that does not say so."""
        self.outlived: list[str] = []
        """Processes that went on long after their supervisor."""
        self._orphans: list[tuple[psutil.Process, str, float]] = []
        self._exit = ExitStack()

    @property
    def ledger_path(self) -> Path:
        """The starts and ends of jobs, a line each."""
        return self.workers[0].process.ledger_path

    def supervise(self) -> None:
        """Start again what has ended, and see to it that it took its own along."""
        for worker in self.workers:
            status = worker.ended() if worker.wanted else None
            if status is None:
                continue
            if not worker.ending:
                self.by_themselves.append(f"{worker.name} with status {status}")
            elif status not in worker.fine:
                self.badly.append(f"{worker.name} with status {status}")
            self._bereave(worker)
            worker.spawn()
        self.orphans()

    def kill_parent(self, worker: Worker) -> None:
        """Kill a supervisor alone: its workers are to end by themselves."""
        worker.wanted = False
        worker.family = worker.descendants()
        with suppress(ProcessLookupError):
            os.kill(worker.process.pid, signal.SIGKILL)
        worker.process.wait(10.0)
        self._bereave(worker)

    def _bereave(self, worker: Worker) -> None:
        deadline = time.monotonic() + ORPHANS_END
        self._orphans += [(process, worker.name, deadline) for process in worker.family]
        worker.family = []

    def orphans(self) -> int:
        """How many live that outlived their supervisor; those that do for too long are told of."""
        left = [one for one in self._orphans if _lives(one[0])]
        now = time.monotonic()
        for process, name, deadline in left:
            if now > deadline:
                self.outlived.append(f"a process of {name}, pid {process.pid}")
                with suppress(psutil.Error):
                    process.kill()
        self._orphans = [one for one in left if now <= one[2]]
        return len(self._orphans)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.stack)
            self.redis_proxy = stack.enter_context(Proxy(self.stack.redis.port))
            exists = self._exists(self.stack.s3) if self.conditional else None
            self.s3_proxy = stack.enter_context(S3Proxy(self.stack.s3.port, exists))
            stack.enter_context(mock.patch.dict(os.environ, self._environment()))
            for name in ("AWS_PROFILE", "STUB_LOAD", "STUB_LOAD_SECONDS", "STUB_REVISION"):
                os.environ.pop(name, None)
            self.settings = load_settings()
            self.straight = self._settings_round_the_proxies()
            self.redis = stack.enter_context(
                redis.Redis.from_url(self.stack.redis.url, decode_responses=True)
            )
            stack.callback(self._kill_all)
            for worker in self.workers:
                worker.spawn()
            for worker in self.workers:
                self._serves(worker)
            self._exit = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._exit.close()

    def _kill_all(self) -> None:
        for worker in self.workers:
            if worker.spawns and worker.ended() is None:
                worker.kill()
        for process, _, _ in self._orphans:
            with suppress(psutil.Error):
                process.kill()

    @staticmethod
    def _serves(worker: Worker) -> None:
        until(lambda: worker.serving, START_SECONDS, lambda: worker.process.log)

    def _environment(self) -> dict[str, str]:
        return self.stack.environment() | {
            "MEDGEMMA_BROKER_URL": self.stack.redis.url.replace(
                f":{self.stack.redis.port}/", f":{self.redis_proxy.port}/"
            ),
            "MEDGEMMA_S3_ENDPOINT_URL": f"http://{HOST}:{self.s3_proxy.port}",
            "MEDGEMMA_TENANT": "local",
            "MEDGEMMA_MODEL": "phantom",
            "MEDGEMMA_VISIBILITY_TIMEOUT": str(VISIBILITY_TIMEOUT),
            "MEDGEMMA_MAX_ATTEMPTS": str(MAX_ATTEMPTS),
        }

    def _settings_round_the_proxies(self) -> Settings:
        straight = {
            "broker_url": self.stack.redis.url,
            "s3_endpoint_url": self.stack.s3.endpoint_url,
        }
        return Settings.model_validate(self.settings.model_dump() | straight)

    @staticmethod
    def _exists(s3: Any) -> Callable[[str], bool]:
        """For the proxy, which enforces conditional puts as AWS does: a look of its own."""
        client = boto3.client(
            "s3",
            endpoint_url=s3.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id=s3.access_key,
            aws_secret_access_key=s3.secret_key,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                connect_timeout=2,
                read_timeout=5,
                retries={"total_max_attempts": 1},
                proxies={},
            ),
        )

        def exists(path: str) -> bool:
            bucket, _, key = path.lstrip("/").partition("/")
            try:
                client.head_object(Bucket=bucket, Key=key)
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                    return False
                raise ConnectionError("the store is out of order") from None
            except BotoCoreError:
                raise ConnectionError("the store is away") from None
            return True

        return exists


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def wait_for_end(worker: Worker, seconds: float) -> bool:
    """Whether a worker that was told to end has done so in time."""
    deadline = time.monotonic() + seconds
    while worker.ended() is None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
