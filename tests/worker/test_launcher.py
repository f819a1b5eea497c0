"""The supervisor, with real processes: a launcher of its own and fake workers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from medgemma_tasks import workers
from medgemma_tasks.backlog import place
from medgemma_tasks.errors import InvalidSettings
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import WorkerHealth, WorkerState
from medgemma_tasks.queue import make_app, publish, queue_settings
from medgemma_tasks.settings import Settings
from medgemma_worker.devices import CPU, Device
from medgemma_worker.exits import SOME_GIVEN_UP
from medgemma_worker.launcher import WORKER_COMMAND, child_environment, launch
from tests.parts import JOB, OTHER_JOB

LAUNCHER = """\
import logging, sys
from medgemma_tasks.queue import queue_settings
from medgemma_tasks.settings import load_settings
from medgemma_worker.devices import parse_devices
from medgemma_worker.launcher import launch
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
        return self.running.wait(20), self._output.read_text()

    def log_says(self, words: str) -> None:
        wait_for(lambda: words in self._output.read_text())

    def _lines(self) -> list[str]:
        if not self.report.exists():
            return []
        return [line for line in self.report.read_text().splitlines(True) if line.endswith("\n")]


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
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
            child.kill()
    process.kill()
    process.wait()


def test_given_three_gpus_each_worker_sees_its_own_device_alone_and_sigterm_ends_all(
    supervisor: Supervisor, nvidia_smi: Callable[..., None]
) -> None:
    nvidia_smi(THREE_GPUS)
    supervisor.start("all", LIVE)
    workers = supervisor.workers(3)
    assert {worker["device"]: worker["CUDA_VISIBLE_DEVICES"] for worker in workers} == {
        "gpu-0": "GPU-0",
        "gpu-1-mig-0": "MIG-1-0",
        "gpu-2": "GPU-2",
    }
    assert {worker["REMAP_SIGTERM"] for worker in workers} == {"SIGQUIT"}
    assert {worker["MEDGEMMA_DEVICE"] for worker in workers} == {"cuda"}
    supervisor.running.send_signal(signal.SIGTERM)
    assert supervisor.ends_with()[0] == 0
    assert all(gone(worker["pid"]) for worker in workers)


def test_on_the_cpu_every_gpu_is_hidden(supervisor: Supervisor) -> None:
    supervisor.start("cpu", LIVE)
    (worker,) = supervisor.workers(1)
    assert worker["CUDA_VISIBLE_DEVICES"] == "-1"
    assert worker["MEDGEMMA_DEVICE"] == "cpu"
    supervisor.running.send_signal(signal.SIGINT)
    assert supervisor.ends_with()[0] == 0


def test_if_a_worker_dies_it_is_started_again_on_its_device(supervisor: Supervisor) -> None:
    supervisor.start("cpu", LIVE)
    (first,) = supervisor.workers(1)
    os.kill(first["pid"], signal.SIGKILL)
    second = supervisor.workers(2)[1]
    assert second["device"] == first["device"]
    assert second["pid"] != first["pid"]


def test_if_a_worker_dies_its_orphans_are_killed_before_the_next_one_starts(
    supervisor: Supervisor,
) -> None:
    supervisor.start("cpu", WITH_POOL)
    (first,) = supervisor.workers(1)
    orphan = int(first["device"].split("/")[1])
    assert not gone(orphan)
    os.kill(first["pid"], signal.SIGKILL)
    supervisor.workers(2)
    wait_for(lambda: gone(orphan))


def test_if_no_worker_ever_starts_the_supervisor_gives_up_after_three_tries(
    supervisor: Supervisor,
) -> None:
    supervisor.start("cpu", FAIL, healthy_after=60)
    status, log = supervisor.ends_with()
    assert status == 1
    assert len(supervisor.workers(3)) == 3
    assert "GIVEN UP" in log


def test_if_one_device_is_given_up_the_others_go_on(
    supervisor: Supervisor, nvidia_smi: Callable[..., None]
) -> None:
    nvidia_smi(THREE_GPUS)
    supervisor.start("0,2", FAIL_ON_GPU_0, healthy_after=60)
    supervisor.log_says("Worker gpu-0 failed to load 3 times in a row")
    (alive,) = [worker for worker in supervisor.workers(4) if worker["device"] == "gpu-2"]
    assert supervisor.running.poll() is None
    assert not gone(alive["pid"])


def test_a_load_that_fails_counts_however_long_it_took(supervisor: Supervisor) -> None:
    supervisor.start("cpu", CANNOT_LOAD, healthy_after=0)
    status, log = supervisor.ends_with()
    assert status == 1
    assert len(supervisor.workers(3)) == 3
    assert "Every device was given up" in log


def test_an_orderly_stop_without_a_device_that_was_given_up_says_so(
    supervisor: Supervisor, nvidia_smi: Callable[..., None]
) -> None:
    nvidia_smi(THREE_GPUS)
    supervisor.start("0,2", CANNOT_LOAD_ON_GPU_0)
    supervisor.log_says("Worker gpu-0 failed to load 3 times in a row")
    supervisor.workers(4)
    supervisor.running.send_signal(signal.SIGTERM)
    assert supervisor.ends_with()[0] == SOME_GIVEN_UP


def test_a_worker_that_dies_late_in_its_load_counts(
    supervisor: Supervisor, stack_settings: Settings
) -> None:
    supervisor.start("cpu", SAYS, healthy_after=0, arguments=("starting", "1"))
    for number in range(3):
        pid = supervisor.workers(number + 1)[number]["pid"]
        supervisor.log_says(f"Worker cpu, pid {pid}, is starting")
        os.kill(pid, signal.SIGTERM)
    assert supervisor.ends_with()[0] == 1


@pytest.mark.parametrize("status", ["1", "78"])
def test_a_worker_that_was_ready_begins_anew(
    supervisor: Supervisor, stack_settings: Settings, status: str
) -> None:
    supervisor.start("cpu", SAYS, healthy_after=60, arguments=("ready", status))
    for number in range(4):
        pid = supervisor.workers(number + 1)[number]["pid"]
        supervisor.log_says(f"Worker cpu, pid {pid}, serves")
        os.kill(pid, signal.SIGTERM)
    supervisor.workers(5)


def test_a_device_that_was_given_up_stays_to_be_seen_while_its_supervisor_lives(
    supervisor: Supervisor, stack_settings: Settings, nvidia_smi: Callable[..., None]
) -> None:
    nvidia_smi(THREE_GPUS)
    supervisor.start("0,2", CANNOT_LOAD_ON_GPU_0)
    supervisor.log_says("GIVEN UP")
    live = LiveState(stack_settings)

    def seen() -> list[WorkerHealth]:
        with live.connected() as redis:
            return workers.workers(redis)

    for _ in range(2):
        wait_for(lambda: bool(seen()))
        (given_up,) = seen()
        assert given_up.name == f"gpu-0@{socket.gethostname()}"
        assert (given_up.device, given_up.state) == ("GPU-0", WorkerState.SETUP_FAILED)
        with live.connected() as redis:
            redis.flushdb()


def test_those_who_wait_are_told_their_places(
    supervisor: Supervisor, stack_settings: Settings
) -> None:
    publish(make_app(stack_settings), stack_settings, "phantom", [OTHER_JOB, JOB])
    supervisor.start("cpu", LIVE)
    live = LiveState(stack_settings)

    def told() -> int | None:
        with live.connected() as redis:
            return place(redis, "local", JOB)

    wait_for(lambda: told() == 1)


def test_metrics_tell_what_serves_and_what_was_given_up(
    supervisor: Supervisor, stack_settings: Settings, nvidia_smi: Callable[..., None]
) -> None:
    nvidia_smi(THREE_GPUS)
    port = free_port()
    worker = CANNOT_LOAD_ON_GPU_0.replace("else", "else tell('ready') or")
    worker = worker.replace(REPORT, REPORT + TELLS)
    supervisor.start("0,2", worker, MEDGEMMA_METRICS_PORT=str(port))
    supervisor.log_says("GIVEN UP")

    def metrics() -> list[str]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            return str(answer.read().decode()).splitlines()

    wait_for(lambda: 'medgemma_worker_up{device="gpu-2"} 1.0' in metrics())
    assert {line for line in metrics() if not line.startswith("#")} == {
        "medgemma_devices_given_up 1.0",
        'medgemma_worker_restarts_total{device="gpu-0"} 2.0',
        'medgemma_worker_restarts_total{device="gpu-2"} 0.0',
        'medgemma_worker_up{device="gpu-0"} 0.0',
        'medgemma_worker_up{device="gpu-2"} 1.0',
    }
    (alive,) = [worker for worker in supervisor.workers(4) if worker["device"] == "gpu-2"]
    os.kill(alive["pid"], signal.SIGKILL)
    wait_for(lambda: 'medgemma_worker_restarts_total{device="gpu-2"} 1.0' in metrics())


def test_a_port_that_cannot_be_had_is_named_before_any_worker_starts() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InvalidSettings, match=str(port)):
            launch(Settings(metrics_port=port), [CPU], command=["must-not-start"])


def test_if_workers_do_not_stop_a_second_signal_kills_them(supervisor: Supervisor) -> None:
    supervisor.start("cpu", DEAF)
    (worker,) = supervisor.workers(1)
    supervisor.running.send_signal(signal.SIGTERM)
    supervisor.log_says("Told to stop: waiting")
    assert not gone(worker["pid"])
    supervisor.running.send_signal(signal.SIGTERM)
    assert supervisor.ends_with()[0] == 1
    assert gone(worker["pid"])


def test_if_the_supervisor_is_killed_its_workers_are_told_to_stop(supervisor: Supervisor) -> None:
    supervisor.start("cpu", LIVE)
    (worker,) = supervisor.workers(1)
    supervisor.running.kill()
    wait_for(lambda: gone(worker["pid"]))


def test_a_device_that_was_set_is_not_overruled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEDGEMMA_DEVICE", raising=False)
    environment = child_environment(Settings(device="cpu"), Device("gpu-0", "GPU-0"))
    assert "MEDGEMMA_DEVICE" not in environment


def test_the_real_worker_is_a_prefork_of_one_named_after_its_device() -> None:
    assert WORKER_COMMAND[1:] == ("-m", "medgemma_worker.app", "{device}")
    settings = queue_settings(Settings())
    assert (settings["worker_pool"], settings["worker_concurrency"]) == ("prefork", 1)
    assert CPU.visible is None
