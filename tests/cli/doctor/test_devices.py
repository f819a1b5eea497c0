"""What doctor says of GPUs, by an nvidia-smi of the test's making."""

from __future__ import annotations

from pathlib import Path

import pytest

from medgemma_cli.doctor.devices import Devices
from medgemma_cli.doctor.finding import Level
from tests.cli.doctor.told import findings, levels

H100 = "0, NVIDIA H100 80GB HBM3, 570.86.15, 81559, {used}, {mig}"
LISTED = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-5c89852c)"
PARTS = "  MIG 3g.40gb     Device  0: (UUID: MIG-77)\n  MIG 3g.40gb     Device  1: (UUID: MIG-78)"


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of an nvidia-smi alone on PATH."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    return tmp_path / "nvidia-smi"


def install(smi: Path, queried: str, listed: str = LISTED, status: int = 0) -> None:
    smi.write_text(
        f"#!/bin/sh\nif [ $1 = -L ]; then echo '{listed}'; else echo '{queried}'; fi\n"
        f"exit {status}\n"
    )
    smi.chmod(0o755)


def test_a_machine_without_one_is_nothing_to_look_at_unless_one_is_wanted(smi: Path) -> None:
    assert set(levels(Devices("auto").part()).values()) == {Level.NOT_APPLICABLE}
    assert levels(Devices("cuda").part())["driver"] is Level.FAILED


def test_what_is_there_is_told_with_its_driver_and_memory(smi: Path) -> None:
    install(smi, H100.format(used=4, mig="Disabled"))
    devices = Devices("auto")
    found = findings(devices.part())
    assert found["driver"].found == "Version 570.86.15, 1 of NVIDIA's GPUs."
    assert found["devices"].found == "0: NVIDIA H100 80GB HBM3, 0.0 of 80 GiB used."
    assert found["MIG"].level is Level.NOT_APPLICABLE
    assert [gpu.driver for gpu in devices.gpus] == ["570.86.15"]


def test_one_on_which_somebody_works_is_warned_of(smi: Path) -> None:
    install(smi, H100.format(used=40000, mig="[N/A]"))
    found = findings(Devices(None).part())["devices"]
    assert (found.level, "39.1 of 80 GiB" in found.found) == (Level.WARNING, True)


def test_the_parts_of_a_divided_one_are_told_and_that_it_has_none(smi: Path) -> None:
    install(smi, H100.format(used=4, mig="Enabled"), f"{LISTED}\n{PARTS}")
    found = findings(Devices(None).part())["MIG"]
    assert (found.level, "gpu-0-mig-0, gpu-0-mig-1" in found.found) == (Level.OK, True)
    install(smi, H100.format(used=4, mig="Enabled"))
    assert levels(Devices(None).part())["MIG"] is Level.FAILED


@pytest.mark.parametrize(
    ("says", "status", "words"),
    [
        ("Failed to initialize NVML: Driver/library version mismatch", 18, "version mismatch"),
        ("", 0, "lists no GPU"),
    ],
)
def test_a_driver_that_does_not_work_is_a_fault(
    smi: Path, says: str, status: int, words: str
) -> None:
    install(smi, says, status=status)
    found = findings(Devices("auto").part())["driver"]
    assert (found.level, words in found.found) == (Level.FAILED, True)
