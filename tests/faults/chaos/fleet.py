"""What the run runs: private Redis and S3, a proxy before each, and the workers, kept alive."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
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


class Worker:
    """One worker and its supervisor: it is started again whenever it has ended."""

    def __init__(self, folder: Path, number: int) -> None:
        self.name = worker_name(number)
        self.temporary = folder / f"{self.name}-tmp"
        self.temporary.mkdir()
        self.process = WorkerProcess(
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
        self.spawns = 0

    def spawn(self) -> None:
        self.wanted, self.ending = True, False
        self.spawns += 1
        self.process.spawn()

    def ended(self) -> int | None:
        """Its exit status, or None while it lives."""
        with suppress(subprocess.TimeoutExpired):
            return self.process.wait(0)
        return None

    def children(self) -> list[int]:
        """The processes that run jobs: one, or none just now."""
        return self._started(beside=False)

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

    def tell_to_end(self) -> None:
        self.ending = True
        self.process.terminate()

    def kill(self) -> None:
        self.wanted = False
        self.signal(signal.SIGKILL)
        self.process.wait(10.0)


class Fleet:
    """A context: all of it runs in it, and nothing of it afterwards. Clients in this process find
    it by the environment. To be entered by the main thread, with which the servers end."""

    def __init__(self, folder: Path, workers: int, conditional: bool) -> None:
        self.folder = folder
        self.conditional = conditional
        self.stack = EmbeddedStack(folder / "parts")
        self.workers = [Worker(folder, number) for number in range(workers)]
        self.by_themselves: list[str] = []
        """Workers that ended though nobody had told them to."""
        self.badly: list[str] = []
        """Those that were told to end, and ended with a status that is not 0."""
        self._exit = ExitStack()

    @property
    def ledger_path(self) -> Path:
        """The starts and ends of jobs, a line each."""
        return self.workers[0].process.ledger_path

    def supervise(self) -> None:
        """Start again what has ended."""
        for worker in self.workers:
            status = worker.ended() if worker.wanted else None
            if status is None:
                continue
            if not worker.ending:
                self.by_themselves.append(f"{worker.name} with status {status}")
            elif status != 0:
                self.badly.append(f"{worker.name} with status {status}")
            worker.spawn()

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

    @staticmethod
    def _serves(worker: Worker) -> None:
        until(lambda: "serving" in worker.process.log, START_SECONDS, lambda: worker.process.log)

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


def wait_for_end(worker: Worker, seconds: float) -> bool:
    """Whether a worker that was told to end has done so in time."""
    deadline = time.monotonic() + seconds
    while worker.ended() is None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
