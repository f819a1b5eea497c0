"""A service at work on canaries: whatever can be asked, and whatever can go wrong on the way."""

from __future__ import annotations

import json
import socket
import traceback
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from medgemma_client.client import Client
from medgemma_client.job import Job
from medgemma_tasks.errors import MedGemmaError
from medgemma_tasks.layout import request_key
from medgemma_tasks.purge import Purger
from medgemma_tasks.queue import make_app, publish
from medgemma_tasks.settings import Settings
from tests.privacy import commands, watching
from tests.privacy.canaries import FILE, GIVEN, KEYWORD, PROMPT, SYSTEM, dicom
from tests.privacy.commands import BAD_IMAGES, LOUD, Commands
from tests.service.harness import Service, WorkerProcess, until
from tests.stub_engine import StubEngine

WAIT = 60.0
FORGED = ("d" * 32, "e" * 32)
"""The jobs of requests that no client of ours wrote."""


class Supervisor(WorkerProcess):
    """``medgemma-explainer worker --gpus cpu``."""

    command = ("-m", "medgemma_cli", "worker", "--gpus", "cpu")


@dataclass
class Told:
    """What was heard of it everywhere, and what it left."""

    folder: Path
    """Where the commands ran."""
    logs: dict[str, str] = field(default_factory=dict)
    """By whose they are."""
    printed: dict[str, str] = field(default_factory=dict)
    """By commands, on standard output."""
    errors: dict[str, MedGemmaError] = field(default_factory=dict)
    """By their codes."""
    traces: dict[str, str] = field(default_factory=dict)
    commanded: bytearray = field(default_factory=bytearray)
    """What Redis was told."""
    memory: dict[str, bytes] = field(default_factory=dict)
    """What it held amid the jobs, and after them."""
    metrics: str = ""
    objects: dict[str, str] = field(default_factory=dict)
    """What the store says of each object, by its key."""
    contents: dict[str, bytes] = field(default_factory=dict)
    """What is in each."""
    deleted: set[str] = field(default_factory=set)
    """The jobs of the run that was purged, and the images that no other job has."""
    after: list[str] = field(default_factory=list)
    """The keys in the store after that."""
    called: bool = False
    """Whether anybody called at an address that the requests named."""
    left: dict[str, list[Path]] = field(default_factory=dict)
    """Temporary files after all who worked had been killed."""


class Scene:
    """Played once: what was heard is the tests' to judge."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings, self._folder, self._told = settings, folder, Told(folder)
        self._commands = Commands(folder, self._temporary("commands"))
        self._trap = socket.create_server(("127.0.0.1", 0))
        self._trap.setblocking(False)
        self._url = f"http://127.0.0.1:{self._trap.getsockname()[1]}/scan.dcm"

    def play(self) -> Told:
        told, port = self._told, _free_port()
        worker = Supervisor(
            self._folder,
            "supervisor",
            PYTHONPATH=LOUD,
            TMPDIR=str(self._temporary("worker")),
            MEDGEMMA_METRICS_PORT=str(port),
            MEDGEMMA_SOFT_TIME_LIMIT="6",
            MEDGEMMA_HARD_TIME_LIMIT="60",
            MEDGEMMA_MAX_ATTEMPTS="1",
        )
        with ExitStack() as stack:
            stack.enter_context(self._trap)
            url = self._settings.broker_url.get_secret_value()
            told.commanded = stack.enter_context(watching.monitored(url))
            said = stack.enter_context(watching.logs())
            service = Service(self._settings, worker)
            jobs = self._ask(service)
            stack.enter_context(worker)
            self._wait(service, jobs)
            self._command()
            self._refuse(service)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                told.metrics = answer.read().decode()
            told.memory["after"] = watching.memory(service.redis)
            told.objects = watching.objects(self._settings)
            store = service.ledger.store
            told.contents = {key: store.get_large(key) or b"" for key in store.keys("")}
            self._purge(service)
            self._kill(worker)
            told.called = self._was_called()
        told.logs = {
            "client": "\n".join(said),
            "worker and supervisor": worker.log,
            **self._commands.logged,
        }
        told.printed = self._commands.printed
        for name in ("worker", "commands"):
            told.left[name] = [path for path in self._temporary(name).rglob("*") if path.is_file()]
        return told

    def _ask(self, service: Service) -> list[Job]:
        """Jobs of every end, all of them on the queue before there is a worker."""
        client = service.client
        picture = commands.image(self._folder, "good", dicom(RetrieveURL=self._url))
        service.ledger.publish_model(StubEngine().served)

        def ask(what: str, **options: Any) -> Job:
            return client.submit(picture, f"{what} {PROMPT} {self._url}", **options)

        first, good = ask("sleep 2"), ask("What?", system=SYSTEM, prompt_words="What")
        cancelled = ask("Cancelled")
        assert cancelled.cancel()
        self._raises(lambda: good.wait(0.1))
        self._raises(good.result)
        return [
            *(first, good, cancelled, ask("Given", answer=GIVEN), ask("Keyword", keyword=KEYWORD)),
            *(ask("crash"), ask("memory"), ask("hang 60"), ask("Late", expires=0.1), ask("die")),
            *self._forged(service, good),
        ]

    def _wait(self, service: Service, jobs: list[Job]) -> None:
        service.running(jobs[0])
        self._told.memory["amid"] = watching.memory(service.redis)
        for job in jobs:
            until(lambda job=job: job.status().state.terminal, WAIT, lambda: service.worker.log)  # type: ignore[misc]
            if job.status().error is not None:
                self._raises(job.result)
        jobs[1].result().save(self._folder / "saved")

    def _forged(self, service: Service, job: Job) -> list[Job]:
        """Requests written by another hand, which name a URL where an image belongs."""
        store = service.ledger.store
        for job_id, wrong in zip(FORGED, ({"name": self._url}, {"url": self._url}), strict=True):
            request = json.loads(store.get(_request(job.id)) or b"")
            request["job_id"] = job_id
            request["images"][0] |= wrong
            store.put(_request(job_id), json.dumps(request).encode())
        publish(make_app(self._settings), self._settings, "phantom", FORGED)
        return [service.client.job(job_id) for job_id in FORGED]

    def _refuse(self, service: Service) -> None:
        """What the client refuses by itself."""
        client, picture = service.client, self._folder / f"{FILE}-good.dcm"

        def refused(image: Any, prompt: str = PROMPT, **options: Any) -> None:
            self._raises(lambda: client.submit(image, prompt, **options))

        for code, content in BAD_IMAGES.items():
            refused(commands.image(self._folder, code, content))
        refused(self._folder / f"{FILE}-absent.dcm")
        refused(self._url)
        refused(picture, " ")
        refused(picture, left_of_image=PROMPT)
        refused(picture, targets=PROMPT)
        self._raises(lambda: client.job("f" * 32))
        self._raises(lambda: client.job(PROMPT))
        for setting, url in (
            ("broker_url", "redis://:password@127.0.0.1:9/0"),
            ("s3_endpoint_url", "http://user:password@127.0.0.1:9"),
        ):
            away = Settings.model_validate({**self._settings.model_dump(), setting: url})
            self._raises(lambda away=away: Client(away).submit(picture, f"{PROMPT} away"))  # type: ignore[misc]

    def _raises(self, action: Callable[[], object]) -> None:
        try:
            action()
        except MedGemmaError as error:
            self._told.errors[error.code] = error
            self._told.traces[error.code] = "".join(traceback.format_exception(error))
            return
        raise AssertionError("it did not fail")

    def _command(self) -> None:
        good, run = f"{FILE}-good.dcm", self._commands.run
        run("submit", good, "-p", f"By command {PROMPT}", "--json", "--out", "saved-by-command")
        run("submit", good, "-p", PROMPT, "-k", KEYWORD, "--json", fails=True)
        run("submit", f"{FILE}-absent.dcm", "-p", PROMPT, fails=True)
        run("dead", "--all-codes")
        run("queue")
        rows = commands.manifest(self._folder, self._url)
        run("backfill", str(rows), "--out", "out", "--run", "run-1", fails=True)

    def _purge(self, service: Service) -> None:
        ledger, told = service.ledger, self._told
        ledger.store.delete(*map(_request, FORGED))  # whose images nobody could tell
        jobs = set(ledger.run_jobs("run-1"))
        found = [ledger.request(job) for job in jobs]
        images = {ref.name for request in found if request for ref in request.images}
        assert (len(jobs), len(images)) == (4, 3)
        Purger(ledger, settle=0, young=0).purge("run-1", older_than=0)
        told.deleted, told.after = jobs | images, ledger.store.keys("")

    def _kill(self, worker: WorkerProcess) -> None:
        """SIGKILL, for all that is at work: a backfill and its readers, one who asks, a worker."""
        asked = (f"{FILE}-good.dcm", "-p", f"sleep 20 {PROMPT}", "--out", "none")
        started = [
            self._commands.start("submit", *asked),
            self._commands.start("backfill", str(commands.long_manifest(self._folder))),
        ]
        before = len(worker.ledger_path.read_text())
        until(lambda: worker.ledger_path.read_text()[before:].count("start ") >= 2, WAIT)
        for pid in (worker.pid, *(process.pid for process, _ in started)):
            parent = psutil.Process(pid)
            for process in (parent, *parent.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):  # its parent ended it
                    process.kill()
        for process, name in started:
            process.wait()
            self._commands.hear(name)

    def _was_called(self) -> bool:
        try:
            self._trap.accept()
        except BlockingIOError:
            return False
        return True

    def _temporary(self, name: str) -> Path:
        path = self._folder / "temporary" / name
        path.mkdir(parents=True, exist_ok=True)
        return path


def _request(job_id: str) -> str:
    return request_key("local", job_id)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
