"""What a notebook shows while it waits, in a real kernel: one line, which is written over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

SETUP = """
import asyncio, time
from threading import Thread
from medgemma_client.watching import in_notebook, watcher
from medgemma_tasks.models import Stage, State, Status
JOB = "0123456789abcdef" * 2

def go(watch, last=State.SUCCEEDED, pause=0.0):
    watch(Status(job_id=JOB, state=State.SUBMITTED, ahead=12))
    for stage in Stage:
        for share in range(0, 10):
            watch(Status(job_id=JOB, state=State.RUNNING, stage=stage, progress=share / 10))
            time.sleep(pause)
    if last is not None:
        watch(Status(job_id=JOB, state=last))
"""
CELLS = [
    SETUP,
    "assert in_notebook()\nprint('before')\nwith watcher(None) as watch: go(watch)\nprint('after')",
    "with watcher(None) as watch: go(watch, State.FAILED)",
    "with watcher(None) as watch: go(watch, None)",
    """
with watcher(None) as watch, watcher(None) as other:
    go(watch)
    go(other)
""",
    "with watcher(False) as watch: go(watch)",
    "seen = []\nwith watcher(seen.append) as watch: go(watch)\nprint(len(seen))",
    # As a loop's own: a kernel runs one, and a client that is not asynchronous works beside it.
    "assert asyncio.get_running_loop()\nwith watcher(True) as watch: go(watch)",
]


@pytest.fixture(scope="module")
def updates() -> list[str]:
    """Every line that was ever shown."""
    return []


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory, updates: list[str]) -> list[Any]:
    book = new_notebook(  # type: ignore[no-untyped-call]
        cells=[new_code_cell(source) for source in CELLS]  # type: ignore[no-untyped-call]
    )

    class Looking(NotebookClient):
        def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
            if msg["msg_type"] in ("display_data", "update_display_data"):
                updates.append(msg["content"]["data"]["text/plain"])
            return super().process_message(msg, cell, cell_index)

    folder: Path = tmp_path_factory.mktemp("notebook")
    Looking(book, timeout=60, resources={"metadata": {"path": str(folder)}}).execute()
    return book.cells  # type: ignore[no-any-return]


def shown(cell: Any) -> list[str]:
    return [output.get("text") or output["data"]["text/plain"] for output in cell.outputs]


def test_one_line_is_left_between_what_else_the_cell_prints(
    cells: list[Any], updates: list[str]
) -> None:
    first, line, last = shown(cells[1])
    assert (first, last) == ("before\n", "after\n")
    assert line.startswith("Job 0123456789abcdef0123456789abcdef succeeded, ")
    assert len(line) < 70
    assert any("queued, 12 ahead" in update for update in updates)
    assert any("█" in update and "explaining" in update for update in updates)


def test_a_job_that_failed_or_goes_on_says_so(cells: list[Any]) -> None:
    assert " failed, " in shown(cells[2])[0]
    assert shown(cells[3]) == ["Not waited for any longer; the job goes on."]


def test_those_who_wait_beside_each_other_share_the_one_line(cells: list[Any]) -> None:
    assert len(shown(cells[4])) == 1


def test_who_wants_none_or_a_callback_of_their_own_gets_that(cells: list[Any]) -> None:
    assert shown(cells[5]) == []
    assert len(shown(cells[6])) == 1
    assert int(shown(cells[6])[0]) > 10


def test_it_works_within_a_running_loop_and_is_plain_text(cells: list[Any]) -> None:
    (output,) = cells[7].outputs
    assert set(output["data"]) == {"text/plain"}
