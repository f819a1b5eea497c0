"""Which loads a supervisor counts, what it tells of them, and what it tells those who wait."""

from __future__ import annotations

import os
import signal
import socket
import urllib.request
from collections.abc import Callable

import pytest

from medgemma_tasks import workers
from medgemma_tasks.backlog import place
from medgemma_tasks.errors import InvalidSettings
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import WorkerHealth, WorkerState
from medgemma_tasks.queue import make_app, publish
from medgemma_tasks.settings import Settings
from medgemma_worker.exits import SOME_GIVEN_UP
from medgemma_worker.supervisor.devices import CPU
from medgemma_worker.supervisor.launcher import launch
from tests.parts import JOB, OTHER_JOB
from tests.worker.supervised import (
    CANNOT_LOAD,
    CANNOT_LOAD_ON_GPU_0,
    LIVE,
    REPORT,
    SAYS,
    TELLS,
    THREE_GPUS,
    Supervisor,
    free_port,
    supervisor,
    wait_for,
)

__all__ = ["supervisor"]


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


def test_a_worker_of_another_supervisor_that_has_the_name_of_one_is_warned_of(
    supervisor: Supervisor, stack_settings: Settings
) -> None:
    supervisor.start("cpu", SAYS, healthy_after=60, arguments=("ready", "0"))
    supervisor.log_says("serves")
    with LiveState(stack_settings).connected() as redis:
        (ours,) = workers.workers(redis)
        workers.say(redis, ours.model_copy(update={"pid": 77, "post": "another"}), 60)
    supervisor.log_says("Another supervisor on this host has a worker cpu of the same model")


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
    of_devices = ("medgemma_devices_", "medgemma_worker_")
    assert {line for line in metrics() if line.startswith(of_devices)} == {
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
