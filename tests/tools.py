"""Programs of the system that judge what we make. A missing one skips, but fails in CI: there it
would hide the tests."""

from __future__ import annotations

import os
import shutil

import pytest


def tool(name: str) -> str:
    """The path of a program: of docker-compose, dcmtk or dicom3tools, all packages of Debian."""
    program = shutil.which(name)
    if program is None and os.environ.get("CI") == "true":
        pytest.fail(f"CI needs {name}")
    if program is None:
        pytest.skip(f"{name} is not installed")
    return program
