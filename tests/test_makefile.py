"""Which Python ``make`` takes for its virtual environment."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def found(folder: Path) -> str:
    """What the Makefile takes where PATH is one folder."""
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    command = [
        make,
        "-f",
        str(ROOT / "Makefile"),
        "-s",
        "--eval",
        "show: ; $(info $(PYTHON))",
        "show",
    ]
    done = subprocess.run(
        command, env={"PATH": str(folder)}, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()[0]


def install(folder: Path, name: str, version: str) -> None:
    """A program that says of itself what a Python of that version does."""
    program = folder / name
    fakes = f"import sys; sys.version_info = ({version.replace('.', ', ')}, 0)"
    program.write_text(
        "#!/bin/sh\n"
        f"exec {sys.executable} -c \"{fakes}; sys.executable = '{program}'; exec(sys.argv[1])\" "
        '"$2"\n'
    )
    program.chmod(0o755)


@pytest.mark.parametrize("version", ["3.11", "3.12"])
def test_a_python3_of_a_version_that_will_do_is_taken(version: str, tmp_path: Path) -> None:
    install(tmp_path, "python3", version)
    assert found(tmp_path) == str(tmp_path / "python3")


@pytest.mark.parametrize("version", ["3.10", "3.13"])
def test_another_python3_is_not(version: str, tmp_path: Path) -> None:
    install(tmp_path, "python3", version)
    assert found(tmp_path) == ""


def test_one_with_its_version_in_its_name_comes_first(tmp_path: Path) -> None:
    install(tmp_path, "python3", "3.11")
    install(tmp_path, "python3.12", "3.12")
    assert found(tmp_path) == str(tmp_path / "python3.12")
