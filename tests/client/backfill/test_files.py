"""The files of a run: each whole or not there, and nothing in them that a program would run."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgemma_client.backfill.files import Folder, safe, write_results
from medgemma_client.backfill.item import Item, RowState
from medgemma_tasks.errors import FileUnwritable, RunUnderWay
from tests.parts import JOB

ITEMS = [
    Item(2, "a", RowState.SUCCEEDED, JOB, "=1+1", "left", metadata={"ward": "@4", "state": "x"}),
    Item(3, "b\n", RowState.FAILED, JOB, code="time_limit", message="It took\ntoo long."),
    Item(4, None, RowState.REFUSED, code="row_malformed", message="-"),
    Item(5, "+c", RowState.SUBMITTED, JOB),
]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_results_and_failures_say_what_each_row_came_to(tmp_path: Path) -> None:
    write_results(tmp_path, lambda: iter(ITEMS), lambda job: f"local/jobs/{job}/")
    results = table(tmp_path / "results.csv")
    assert [*results[0]] == [
        "item", "job", "state", "answer", "peak", "path", "ward", "manifest_state",
    ]  # fmt: skip
    assert [*results[0].values()] == [
        "a", JOB, "succeeded", "'=1+1", "left", f"local/jobs/{JOB}/", "'@4", "x",
    ]  # fmt: skip
    assert [row["item"] for row in results] == ["a", "b\\n", "", "'+c"]
    failures = table(tmp_path / "failures.csv")
    assert [(row["row"], row["code"], row["cause"]) for row in failures] == [
        ("3", "time_limit", "It took\\ntoo long."),
        ("4", "row_malformed", "'-"),
    ]
    assert sorted(os.listdir(tmp_path)) == ["failures.csv", "results.csv"]


@given(st.text())
def test_no_field_is_a_formula_or_steers_a_terminal(field: str) -> None:
    written = safe(field)
    assert not written.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert written.isprintable() or not any(c < " " or "\x7f" <= c < "\xa0" for c in written)
    written.encode()


def test_a_file_that_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    write_results(tmp_path, lambda: iter(ITEMS), str)
    before = (tmp_path / "results.csv").read_bytes()

    passes = iter((ITEMS, None))

    def breaks() -> Iterator[Item]:
        yield ITEMS[0]
        if next(passes) is None:
            raise OSError(28, "No space left on device")

    with pytest.raises(FileUnwritable, match="No space left"):
        write_results(tmp_path, breaks, str)
    assert (tmp_path / "results.csv").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["failures.csv", "results.csv"]


def test_one_process_at_a_time_works_in_a_folder(tmp_path: Path) -> None:
    """However the one before ended."""
    holder = (
        "import sys, time; from pathlib import Path\n"
        "from medgemma_client.backfill.files import Folder\n"
        "with Folder(Path(sys.argv[1]), 'run-1'):\n"
        "    print('in', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    with pytest.raises(RunUnderWay), Folder(tmp_path, "run-1"):
        pass
    process.kill()
    process.wait()
    process.stdout.close()
    with Folder(tmp_path, "run-1"):
        pass
