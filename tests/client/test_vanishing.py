"""A temporary folder goes with its process, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medgemma_client.vanishing import vanishing_folder

HOLDS = """\
import sys, time
from medgemma_client.vanishing import vanishing_folder
with vanishing_folder("medgemma-test-") as folder:
    (folder / "scan.dcm").write_bytes(b"x")
    print("there", flush=True)
    time.sleep(600)
"""


def test_it_is_there_for_this_user_alone_and_gone_afterwards() -> None:
    with vanishing_folder("medgemma-test-") as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "scan.dcm").write_bytes(b"x")
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()


def test_it_is_gone_after_an_error() -> None:
    def fail() -> None:
        with vanishing_folder("medgemma-test-") as folder:
            found.append(folder)
            raise KeyError

    found: list[Path] = []
    with pytest.raises(KeyError):
        fail()
    assert not found[0].exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_is_gone_after_its_process_was_ended(number: int, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        start_new_session=True,
    )
    assert process.stdout is not None
    with process.stdout as said:
        assert said.readline() == b"there\n"
        assert list(tmp_path.glob("*/scan.dcm"))
        os.killpg(process.pid, number)
        process.wait()
    deadline = time.monotonic() + 20
    while list(tmp_path.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
