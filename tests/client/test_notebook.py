"""What a notebook shows of a job, in a real kernel."""

from __future__ import annotations

import nbformat
from nbclient import NotebookClient

WATCHED = """
from medgemma_client.watching import watcher
from medgemma_tasks.models import Stage, State, Status

JOB = "0" * 32
with watcher(None) as watch:
    watch(Status(job_id=JOB, state=State.SUBMITTED, ahead=2))
    watch(Status(job_id=JOB, state=State.RUNNING, stage=Stage.EXPLAINING, progress=0.5))
    {last}
"""
ENDED = "watch(Status(job_id=JOB, state=State.SUCCEEDED, progress=1.0))"


def shown(last: str) -> list[nbformat.NotebookNode]:
    """The outputs of a cell that watches a job."""
    cell = nbformat.v4.new_code_cell(WATCHED.format(last=last))  # type: ignore[no-untyped-call]
    notebook = nbformat.v4.new_notebook(cells=[cell])  # type: ignore[no-untyped-call]
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    return list(notebook.cells[0].outputs)


def test_a_job_that_runs_is_one_line_of_plain_text() -> None:
    (output,) = shown("pass")
    assert output.data == {"text/plain": "explaining, 72%"}


def test_a_job_that_ended_leaves_one_short_line() -> None:
    (output,) = shown(ENDED)
    assert output.data == {"text/plain": "succeeded"}
