from __future__ import annotations

from typing import Any

import fakeredis
import pytest

from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.settings import Settings
from medgemma_worker.board import Board
from medgemma_worker.engine import Explained
from medgemma_worker.places import InHand
from medgemma_worker.wrappers.held import RunsElsewhere, held_here, keep, let_go
from medgemma_worker.wrappers.run import Around, Run
from tests.parts import request_for
from tests.stub_engine import StubEngine
from tests.worker.direct import Direct

REQUEST = request_for()
HELD = InHand("local", REQUEST.job_id, 1)
NOTHING: Any = None


@pytest.fixture
def run(ledger: Ledger, live: LiveState, settings: Settings) -> Run:
    return Run(REQUEST, Around(StubEngine(), Direct(StubEngine()), ledger, live, settings, Board()))


def explained(run: Run) -> Explained:
    return NOTHING  # type: ignore[no-any-return]


def test_a_job_that_another_worker_runs_is_left_to_it(run: Run, live: LiveState) -> None:
    other = Board()
    keep(other, live, [HELD])
    with pytest.raises(RunsElsewhere):
        held_here(run, explained)
    let_go(other, live, HELD)
    held_here(run, explained)


def test_a_job_is_held_while_it_runs_and_then_no_longer(
    run: Run, redis_fake: fakeredis.FakeRedis
) -> None:
    def failing(run: Run) -> Explained:
        (key,) = redis_fake.keys("medgemma:held:*")
        assert 0 < redis_fake.pttl(key) <= 15_000
        raise KeyError

    with pytest.raises(KeyError):
        held_here(run, failing)
    assert not redis_fake.keys("*")


def test_a_worker_takes_up_the_job_of_its_own_dead_child(run: Run, live: LiveState) -> None:
    keep(run.around.board, live, [HELD])
    held_here(run, explained)


def test_nobody_lets_go_what_another_holds(run: Run, live: LiveState) -> None:
    keep(Board(), live, [HELD])
    let_go(run.around.board, live, HELD)
    with pytest.raises(RunsElsewhere):
        held_here(run, explained)
