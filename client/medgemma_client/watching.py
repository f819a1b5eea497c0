"""Showing a person how far a job is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from medgemma_tasks.models import Stage, State, Status

Watcher = Callable[[Status], None]

_SHARE = {
    Stage.LOADING: (0.0, 0.05),
    Stage.GENERATING: (0.05, 0.5),
    Stage.EXPLAINING: (0.5, 0.95),
    Stage.STORING: (0.95, 1.0),
}
"""Which part of the whole bar a stage fills."""


@contextmanager
def watcher(progress: bool | Watcher | None) -> Iterator[Watcher]:
    """The watcher that is wanted: the caller's own, a bar (in a notebook a line), or one that
    shows nothing."""
    if callable(progress):
        yield progress
    elif progress or (progress is None and _somebody_watches()):
        with _line() if _in_notebook() else _bar() as watch:
            yield watch
    else:
        yield lambda status: None


def overall(status: Status) -> float:
    """How far a job is as a whole, from 0 to 1."""
    if status.stage is None:
        return status.progress
    start, end = _SHARE[status.stage]
    return start + (end - start) * status.progress


def in_words(status: Status) -> str:
    """The stage of a job that runs, or its place in the queue, in a few words."""
    if status.stage is not None:
        return status.stage.value
    if status.state is not State.SUBMITTED or status.ahead is None:
        return status.state.value
    return "queued, next" if status.ahead == 0 else f"queued, {status.ahead:,} ahead"


@contextmanager
def _bar() -> Iterator[Watcher]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("submitted", total=1.0)

        def watch(status: Status) -> None:
            bar.update(task, description=in_words(status), completed=overall(status))

        yield watch


@contextmanager
def _line() -> Iterator[Watcher]:
    """One output of plain text, which each status replaces."""
    from IPython.display import display

    first = {"text/plain": "submitted"}
    shown = display(first, raw=True, display_id=True)  # type: ignore[no-untyped-call]

    def watch(status: Status) -> None:
        said = in_words(status)
        if not status.state.terminal:
            said += f", {overall(status):.0%}" if status.stage is not None else ""
        shown.update({"text/plain": said}, raw=True)

    yield watch


def _in_notebook() -> bool:
    return "ipykernel" in sys.modules


def _somebody_watches() -> bool:
    return sys.stderr.isatty() or _in_notebook()
