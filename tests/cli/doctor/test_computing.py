"""What doctor says of torch, by what a python of the test's making says in its process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medgemma_cli.doctor import computing
from medgemma_cli.doctor.computing import Computing
from medgemma_cli.doctor.devices import Gpu
from medgemma_cli.doctor.finding import Level
from tests.cli.doctor.told import findings, levels

HERE = [Gpu(0, "H100", "570.86.15", 81559, 4, False)]
WORKS = {"name": "H100", "trouble": "", "bfloat16": True}


def told_by(folder: Path, says: str) -> str:
    """A python that says so, whatever it is told to run."""
    python = folder / "python"
    python.write_text(f"#!/bin/sh\necho 'a warning of some library'\necho '{says}'\n")
    python.chmod(0o755)
    return str(python)


def of(folder: Path, there: list[Gpu], says: dict[str, Any]) -> Computing:
    told = {"torch": "2.13.0", "cuda": "12.8", "available": True, "gpus": [], **says}
    return Computing(lambda: there, told_by(folder, json.dumps(told)))


@pytest.mark.parametrize(
    ("gpus", "says", "level", "words"),
    [
        (HERE, {"gpus": [WORKS]}, Level.OK, "computes on H100"),
        (HERE, {"cuda": None, "available": False}, Level.FAILED, "for the CPU alone"),
        (HERE, {"available": False}, Level.FAILED, "cannot use the driver 570.86.15"),
        (HERE, {"gpus": [WORKS | {"trouble": "AcceleratorError"}]}, Level.FAILED, "cannot compute"),
        (HERE, {"gpus": [WORKS | {"bfloat16": False}]}, Level.WARNING, "bfloat16"),
        ([], {"cuda": None, "available": False}, Level.NOT_APPLICABLE, "on the CPU"),
    ],
)
def test_whether_its_cuda_fits_the_driver_is_told(
    tmp_path: Path, gpus: list[Gpu], says: dict[str, Any], level: Level, words: str
) -> None:
    found = findings(of(tmp_path, gpus, says).part())
    assert found["installation"].level is Level.OK
    assert (found["CUDA"].level, words in found["CUDA"].found) == (level, True)


def test_one_that_cannot_be_imported_is_a_fault(tmp_path: Path) -> None:
    found = levels(Computing(list, told_by(tmp_path, "Traceback")).part())
    assert found == {"installation": Level.FAILED, "CUDA": Level.NOT_APPLICABLE}


def test_a_client_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(computing, "installed", lambda name: False)
    found = findings(Computing(lambda: HERE, "/no/python").part())
    assert found["installation"].level is Level.NOT_APPLICABLE
    assert "runs no worker" in found["installation"].found
