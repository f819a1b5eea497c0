"""--gpus: which devices a machine serves, by what nvidia-smi says."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable

import pytest

from medgemma_tasks.errors import DeviceError
from medgemma_worker.supervisor.devices import CPU, Device, parse_devices

THREE_GPUS = """\
GPU 0: NVIDIA H200 (UUID: GPU-00000000-aaaa)
GPU 1: NVIDIA H200 (UUID: GPU-11111111-bbbb)
  MIG 3g.71gb     Device  0: (UUID: MIG-10101010-cccc)
  MIG 1g.18gb     Device  1: (UUID: MIG-11111111-dddd)
GPU 2: NVIDIA H200 (UUID: GPU-22222222-eeee)"""

GPU_0 = Device("gpu-0", "GPU-00000000-aaaa")
MIG_0 = Device("gpu-1-mig-0", "MIG-10101010-cccc")
MIG_1 = Device("gpu-1-mig-1", "MIG-11111111-dddd")
GPU_2 = Device("gpu-2", "GPU-22222222-eeee")

Install = Callable[..., None]


@pytest.mark.parametrize("gpus", ["cpu", "none", " cpu "])
def test_cpu_is_one_device_and_nvidia_smi_is_not_asked(gpus: str, nvidia_smi: Install) -> None:
    nvidia_smi(THREE_GPUS)
    assert parse_devices(gpus, {}) == [CPU]


def test_all_is_every_gpu_and_a_divided_gpu_is_its_mig_devices(nvidia_smi: Install) -> None:
    nvidia_smi(THREE_GPUS)
    assert parse_devices("all", {}) == [GPU_0, MIG_0, MIG_1, GPU_2]


@pytest.mark.parametrize(
    ("gpus", "devices"),
    [
        ("2,0", [GPU_2, GPU_0]),
        ("1", [MIG_0, MIG_1]),
        ("GPU-22222222-eeee", [GPU_2]),
        ("MIG-11111111-dddd, 0", [MIG_1, GPU_0]),
    ],
)
def test_indices_and_uuids_are_taken_in_the_order_given(
    gpus: str, devices: list[Device], nvidia_smi: Install
) -> None:
    nvidia_smi(THREE_GPUS)
    assert parse_devices(gpus, {}) == devices


@pytest.mark.parametrize(
    ("visible", "devices"),
    [
        ("2", [GPU_2]),
        ("2,0", [GPU_2, GPU_0]),
        ("MIG-10101010-cccc", [MIG_0]),
        ("0,7,2", [GPU_0]),  # CUDA, too, ends the list at an entry that is not there
        ("", [CPU]),
        ("-1", [CPU]),
    ],
)
def test_all_stays_within_cuda_visible_devices(
    visible: str, devices: list[Device], nvidia_smi: Install
) -> None:
    nvidia_smi(THREE_GPUS)
    assert parse_devices("all", {"CUDA_VISIBLE_DEVICES": visible}) == devices


def test_a_gpu_that_cuda_visible_devices_hides_is_refused(nvidia_smi: Install) -> None:
    nvidia_smi(THREE_GPUS)
    with pytest.raises(DeviceError, match=r"'0', which is not there\. There is: gpu-2 "):
        parse_devices("0", {"CUDA_VISIBLE_DEVICES": "2"})


@pytest.mark.parametrize("gpus", ["3", "0,3", "GPU-none", "cpu,0", "all,0", "", "0,", "-1", "²"])
def test_what_is_not_there_is_refused_with_what_is(gpus: str, nvidia_smi: Install) -> None:
    nvidia_smi(THREE_GPUS)
    with pytest.raises(DeviceError, match=r"gpu-0 .*gpu-1-mig-0 .*gpu-1-mig-1 .*gpu-2 "):
        parse_devices(gpus, {})


@pytest.mark.parametrize("gpus", ["0,0", "0,GPU-00000000-aaaa", "1,MIG-11111111-dddd"])
def test_a_device_named_twice_is_refused(gpus: str, nvidia_smi: Install) -> None:
    nvidia_smi(THREE_GPUS)
    with pytest.raises(DeviceError, match="twice"):
        parse_devices(gpus, {})


def test_if_nvidia_smi_is_not_installed_all_is_the_cpu_with_a_warning(
    nvidia_smi: Install, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert parse_devices("all", {}) == [CPU]
    assert "nvidia-smi is not installed" in caplog.text


@pytest.mark.parametrize(
    ("says", "status", "warned"),
    [
        ("No devices found.", 0, "lists none"),
        ("Failed to initialize NVML: Driver/library version mismatch", 18, "Driver/library"),
    ],
)
def test_if_nvidia_smi_finds_nothing_all_is_the_cpu_and_the_log_says_why(
    says: str, status: int, warned: str, nvidia_smi: Install, caplog: pytest.LogCaptureFixture
) -> None:
    nvidia_smi(says, status)
    with caplog.at_level(logging.WARNING):
        assert parse_devices("all", {}) == [CPU]
    assert warned in caplog.text


def test_if_there_is_no_gpu_an_index_is_refused(nvidia_smi: Install) -> None:
    with pytest.raises(DeviceError, match=r"no GPU \(nvidia-smi is not installed"):
        parse_devices("0", {})


def test_the_supervisor_imports_no_torch() -> None:
    program = (
        "import sys, medgemma_worker.supervisor.launcher\n"
        "from medgemma_worker.supervisor import devices\n"
        "devices.parse_devices('all')\n"
        "assert not {'torch', 'transformers', 'celery'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
