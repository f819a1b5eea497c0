from __future__ import annotations

from typing import Any

import pytest

from medgemma_tasks.models import Stage
from medgemma_worker.engine import Explained
from medgemma_worker.wrappers.run import Run, Step, wrapped
from tests.parts import request_for

NOTHING: Any = None


@pytest.fixture
def run() -> Run:
    return Run(request_for(), NOTHING)


def test_the_first_wrapper_is_the_outermost(run: Run) -> None:
    said: list[str] = []

    def named(name: str) -> Any:
        def wrapper(run: Run, step: Step) -> Explained:
            said.append(f"{name} in")
            explained = step(run)
            said.append(f"{name} out")
            return explained

        return wrapper

    def step(run: Run) -> Explained:
        said.append("step")
        return NOTHING  # type: ignore[no-any-return]

    wrapped(step, named("a"), named("b"))(run)
    assert said == ["a in", "b in", "step", "b out", "a out"]


def test_every_hearer_hears_a_report_until_one_ends_the_job(run: Run) -> None:
    heard: list[float] = []

    def ends(stage: Stage, progress: float) -> None:
        raise KeyError

    run.hearers += [lambda _, progress: heard.append(progress), ends]
    run.hearers.append(lambda _, progress: heard.append(-progress))
    with pytest.raises(KeyError):
        run.report(Stage.GENERATING, 0.5)
    assert heard == [0.5]


def test_a_run_has_no_number_before_its_start_is_counted(run: Run) -> None:
    assert run.number == 0
