"""Programs of the system that judge what we make. A missing one skips, but fails in CI: there it
would hide the tests."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest


def tool(name: str) -> str:
    """The path of a program: of docker-compose, dcmtk, dicom3tools and their kin, all of Debian;
    or of kubectl, whose Kustomize is too old there: on PATH, or from a wheel, beside Python."""
    places = (os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent))
    program = shutil.which(name, path=os.pathsep.join(places))
    if program is None and os.environ.get("CI") == "true":
        pytest.fail(f"CI needs {name}")
    if program is None:
        pytest.skip(f"{name} is not installed")
    return program
