"""A file is there whole or not at all, and a kill leaves nothing of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from medgemma_client import whole
from medgemma_client.whole import whole_file

KILLED = """\
import os, signal, sys
from pathlib import Path
from medgemma_client.whole import whole_file
with whole_file(Path(sys.argv[1])) as file:
    file.write(b"canary" * 100_000)
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(params=["without a name", "with one"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "with one":  # as on a system or a file system that knows no other way
        monkeypatch.setattr(whole, "_nameless", lambda folder: None)


@pytest.mark.usefixtures("either")
def test_it_appears_at_the_end_over_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(b"earlier")
    with whole_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"earlier"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.usefixtures("either")
def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(b"earlier")

    def fail() -> None:
        with whole_file(path) as file:
            file.write(b"new")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.usefixtures("either")
def test_it_has_the_usual_mode(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with whole_file(tmp_path / "result.json"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "result.json").stat().st_mode & 0o777 == 0o640


@pytest.mark.usefixtures("either")
def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "none" / "result.json"):
        pass


def test_a_kill_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "a")], check=False)
    assert done.returncode == -9
    assert list(tmp_path.iterdir()) == []
