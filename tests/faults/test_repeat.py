"""What the table of repeated faults says of tests that pass, fail and are skipped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

TESTS = '''
import pytest

@pytest.fixture
def scene():
    print("a scene")

@pytest.mark.parametrize("kind", ["a", "b"])
def test_one_passes(scene, kind):
    """Fault 3: nothing."""
    print(kind)

def test_another_does_not(scene):
    """FLUSHALL."""
    {}

def test_without_a_scene():
    print("once")
'''


def repeated(folder: Path, other: str, *options: str) -> tuple[int, str, str]:
    """Exit status, output and table of three repetitions."""
    (folder / "test_it.py").write_text(TESTS.format(other))
    plugin = ["-p", "tests.faults.repeat", "--repeat", "3", "--summary", "out/table.md"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-s", *plugin, *options, "test_it.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, (folder / "out" / "table.md").read_text()


def test_the_whole_set_is_repeated_and_what_has_no_scene_is_not(tmp_path: Path) -> None:
    status, output, table = repeated(tmp_path, "print('c')")
    assert status == 0
    said = [line.split()[-1] for line in output.splitlines() if line]
    assert [word for word in said if word in ("a", "b", "c", "once")] == ["once", *"abc" * 3]
    assert "| 3 | one passes [a] | 3 / 3 |" in table
    assert "| FLUSHALL | another does not | 3 / 3 |" in table
    assert table.endswith("9 of 9 runs passed.\n")


def test_a_fault_that_was_skipped_or_not_survived_fails_the_whole(tmp_path: Path) -> None:
    for other in ("pytest.skip('no server')", "assert False"):
        status, _, table = repeated(tmp_path, other)
        assert status == 1
        assert "| FLUSHALL | another does not | 0 / 3 |" in table
        assert table.endswith("6 of 9 runs passed.\n")


def test_sets_beside_each_other_make_one_table(tmp_path: Path) -> None:
    status, _, table = repeated(tmp_path, "print('c')", "-n", "2")
    assert status == 0
    assert "| FLUSHALL | another does not | 3 / 3 |" in table
    assert table.endswith("9 of 9 runs passed.\n")
