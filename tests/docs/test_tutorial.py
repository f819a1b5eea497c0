"""The tutorial is what its source says, runs from top to bottom, and leaves nothing behind."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook

from tests.docs.tutorial import DOCS, NOTEBOOK, execute, notebook
from tests.service.harness import until

LARGEST = 600_000
"""Bytes of the notebook as it is kept."""


@pytest.fixture
def kept() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]


def outputs(book: Any) -> list[Any]:
    return [output for cell in book.cells for output in cell.get("outputs", [])]


def text(book: Any) -> str:
    """Whatever cells printed or showed, as text."""
    shown = [
        output.get("text", "") + output.get("data", {}).get("text/plain", "")
        for output in outputs(book)
    ]
    return "\n".join(shown)


def started() -> list[str]:
    """What runs beneath us: kernels, servers, workers."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has just ended
            found.append(" ".join(child.cmdline()))
    return found


def ends_with(before: list[str]) -> None:
    until(lambda: len(started()) <= len(before), 60.0, lambda: str(started()))


def test_it_is_what_its_source_says(kept: Any) -> None:
    """``python -m tests.docs.tutorial`` makes it again."""
    sources = [(cell.cell_type, cell.source) for cell in kept.cells]
    assert sources == [(cell.cell_type, cell.source) for cell in notebook().cells]


def test_it_is_small_and_names_no_machine(kept: Any) -> None:
    assert NOTEBOOK.stat().st_size < LARGEST
    whole = NOTEBOOK.read_text()
    for name in (os.path.expanduser("~"), "127.0.0.1", "localhost", "redis://", "/tmp/"):
        assert name not in whole
    assert "error" not in {output.output_type for output in outputs(kept)}
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", whole):
        assert (DOCS / link).exists(), link


def test_it_runs_from_top_to_bottom_and_what_it_says_is_so(tmp_path: Path) -> None:
    before = started()
    ran = execute(notebook(), tmp_path)
    ends_with(before)
    said = text(ran)
    assert said.count("There is a consolidation in the right mid zone.") >= 3
    assert "\nTrue\n" in said  # the peak lies on the lesion
    assert "zone: log p" in said
    assert "deletion None insertion None" in said
    assert "keyword_not_in_answer" in said
    for line in re.findall(r"succeeded \| (.*)", said):
        answer, truth = line.split(" | truth: ")
        assert answer == truth
    lines = re.findall(r"^Job [0-9a-f]{32} .*$", said, re.MULTILINE)
    assert len(lines) >= 8
    assert not re.search("[█░]", said)  # of each bar only the last words are left
    (card,) = [o.data["text/html"] for o in outputs(ran) if "consolidation" in str(o.get("data"))]
    assert "<mark>consolidation</mark>" in card
    folder = tmp_path / "tutorial-out"
    assert {"report.html", "film", "run"} <= {path.name for path in folder.iterdir()}
    assert (folder / "run" / "results.csv").exists()


def test_a_cell_that_fails_leaves_nothing_running(tmp_path: Path) -> None:
    before = started()
    first = next(cell for cell in notebook().cells if "EmbeddedService" in cell.source)
    cells = [first, new_code_cell("1 / 0")]  # type: ignore[no-untyped-call]
    book = new_notebook(cells=cells)  # type: ignore[no-untyped-call]
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        execute(book, tmp_path)
    ends_with(before)
    assert list(tmp_path.iterdir()) == []
