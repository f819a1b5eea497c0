"""One run of a job, and how wrappers go round it.

A wrapper does one thing (counts the start, keeps to the deadline, writes the mark) and calls the
next step. Each can be read, and tried, alone; ``medgemma_worker.job`` puts them in their order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import Protocol

from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import ExplanationRequest, Stage
from medgemma_tasks.settings import Settings
from medgemma_worker.board import Board
from medgemma_worker.engine import Answered, Engine, Explained, Found, Prepared, Report
from medgemma_worker.stopwatch import Stopwatch


class Steps(Protocol):
    """The device, as a job sees it: ``medgemma_worker.device.Device``."""

    def answer(self, run: Run, prepared: Prepared) -> Answered: ...
    def explain(self, run: Run, answered: Answered) -> Found: ...


@dataclass(frozen=True)
class Around:
    """What is around a job: the model and its device, the store, Redis."""

    engine: Engine
    device: Steps
    ledger: Ledger
    live: LiveState
    settings: Settings
    board: Board


@dataclass(frozen=True)
class Attempt:
    """One start of a job."""

    number: int
    """From 1."""
    token: str
    """Hexadecimal digits, and no other attempt's."""

    @property
    def name(self) -> str:
        """The folder of its artifacts."""
        return f"{self.number}-{self.token}"


@dataclass
class Run:
    """A job on its way through the wrappers."""

    request: ExplanationRequest
    around: Around
    watch: Stopwatch = field(default_factory=Stopwatch)
    attempt: Attempt | None = None
    """None until the start is counted."""
    hearers: list[Report] = field(default_factory=list)
    """Called at each step of the engine, in order. One that raises ends the job there."""

    @property
    def job_id(self) -> str:
        return self.request.job_id

    @property
    def number(self) -> int:
        """Of the attempt, from 1; 0 before it is counted."""
        return 0 if self.attempt is None else self.attempt.number

    def report(self, stage: Stage, progress: float) -> None:
        """What the engine calls with its stage and its progress from 0 to 1."""
        for hear in self.hearers:
            hear(stage, progress)


Step = Callable[[Run], Explained]
"""What explains a run's request, wrapped in whatever else."""

Wrapper = Callable[[Run, Step], Explained]
"""Does its own thing, and calls the step."""


def wrapped(step: Step, *wrappers: Wrapper) -> Step:
    """The step inside all wrappers, of which the first is the outermost."""
    return reduce(lambda inner, wrapper: partial(_call, wrapper, inner), reversed(wrappers), step)


def _call(wrapper: Wrapper, inner: Step, run: Run) -> Explained:
    return wrapper(run, inner)
