"""The supervisor, with real processes: a launcher of its own and fake workers."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable

import pytest

from medgemma_tasks.queue import queue_settings
from medgemma_tasks.settings import Settings
from medgemma_worker.supervisor.child import child_environment
from medgemma_worker.supervisor.devices import CPU, Device
from medgemma_worker.supervisor.launcher import WORKER_COMMAND
from tests.worker.supervised import (
    DEAF,
    FAIL,
    FAIL_ON_GPU_0,
    LIVE,
    THREE_GPUS,
    WITH_POOL,
    Supervisor,
    gone,
    supervisor,
    wait_for,
)

__all__ = ["supervisor"]


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


def test_if_a_worker_cannot_be_started_for_now_it_is_tried_again_and_the_others_go_on(
    supervisor: Supervisor, nvidia_smi: Callable[..., None]
) -> None:
    nvidia_smi(THREE_GPUS)
    supervisor.start("0,2", LIVE)
    first, other = supervisor.workers(2)
    pid, limit = supervisor.running.pid, resource.RLIMIT_NOFILE
    before = resource.prlimit(pid, limit)
    resource.prlimit(pid, limit, (3, before[1]))  # it has more open: no new file, and no pipe
    os.kill(first["pid"], signal.SIGKILL)
    supervisor.log_says(f"Worker {first['device']} could not be started")
    resource.prlimit(pid, limit, before)
    assert supervisor.workers(3)[2]["device"] == first["device"]
    assert not gone(other["pid"])


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
    assert WORKER_COMMAND[1:] == ("-m", "medgemma_worker.app", "{device}", "{counters}")
    settings = queue_settings(Settings())
    assert (settings["worker_pool"], settings["worker_concurrency"]) == ("prefork", 1)
    assert CPU.visible is None
