"""Showing a person how far a job is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

from medgemma_tasks.models import Stage, State, Status

Watcher = Callable[[Status], None]

_SHARE = {
    Stage.LOADING: (0.0, 0.05),
    Stage.GENERATING: (0.05, 0.5),
    Stage.EXPLAINING: (0.5, 0.95),
    Stage.STORING: (0.95, 1.0),
}
"""Which part of the whole bar a stage fills."""


_CELLS = 20
"""Characters of the bar in a notebook's line."""

_WORDS = 15
"""Characters of the words before a terminal's bar, so that it stays where it is: no stage has more,
and few places in a queue."""

_one = Lock()
"""Held by the one whose bar is shown."""


@contextmanager
def watcher(progress: bool | Watcher | None) -> Iterator[Watcher]:
    """The watcher that is wanted: the caller's own, a bar, or one that shows nothing.

    One bar at a time: while it is there, those who wait beside it see nothing of theirs.
    """
    if callable(progress):
        yield progress
    elif (progress or (progress is None and _somebody_watches())) and _one.acquire(blocking=False):
        try:
            with _line() if in_notebook() else _bar() as watch:
                yield watch
        finally:
            _one.release()
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
        task = bar.add_task("submitted".ljust(_WORDS), total=1.0)

        def watch(status: Status) -> None:
            words = in_words(status).ljust(_WORDS)
            bar.update(task, description=words, completed=overall(status))

        yield watch


@contextmanager
def _line() -> Iterator[Watcher]:
    """One line of a notebook, which is written over, and says at last what it came to."""
    from IPython.display import display

    began, last = time.monotonic(), ""
    status: Status | None = None
    shown = display(  # type: ignore[no-untyped-call]
        {"text/plain": "submitted"}, raw=True, display_id=True
    )

    def show(line: str) -> None:
        nonlocal last
        if shown is not None and line != last:
            last = line
            shown.update({"text/plain": line}, raw=True)

    def watch(found: Status) -> None:
        nonlocal status
        status = found
        filled = round(overall(found) * _CELLS)
        bar = "█" * filled + "░" * (_CELLS - filled)
        show(f"{bar} {in_words(found)}, {time.monotonic() - began:.0f} s")

    try:
        yield watch
    finally:
        if status is not None and status.state.terminal:
            show(f"Job {status.job_id} {status.state.value}, {time.monotonic() - began:.1f} s.")
        else:
            show("Not waited for any longer; the job goes on.")


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook: it shows what is displayed, and no terminal."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


def _somebody_watches() -> bool:
    return sys.stderr.isatty() or in_notebook()
