from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from medgemma_tasks.errors import JobExpired
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import ExplanationRequest, Stage
from medgemma_tasks.settings import Settings
from medgemma_worker.board import Board
from medgemma_worker.engine import Explained
from medgemma_worker.wrappers.deadline import before_its_deadline
from medgemma_worker.wrappers.run import Around, Run
from tests.parts import request_for
from tests.stub_engine import StubEngine
from tests.worker.direct import Direct

PAST, SOON = (datetime.now(UTC) + timedelta(hours=hours) for hours in (-1, 1))


def expiring(expires_at: datetime | None) -> ExplanationRequest:
    return request_for().model_copy(update={"expires_at": expires_at})


@pytest.fixture
def around(ledger: Ledger, live: LiveState, settings: Settings) -> Around:
    return Around(StubEngine(), Direct(StubEngine()), ledger, live, settings, Board())


def explained(run: Run) -> Explained:
    nothing: Any = run.report(Stage.EXPLAINING, 0.0)
    return nothing  # type: ignore[no-any-return]


@pytest.mark.parametrize("expires_at", [None, SOON])
def test_a_job_in_time_is_run(around: Around, expires_at: datetime | None) -> None:
    before_its_deadline(Run(expiring(expires_at), around), explained)


def test_a_job_past_its_deadline_is_not_started(around: Around) -> None:
    def started(run: Run) -> Explained:
        pytest.fail("it was started")

    with pytest.raises(JobExpired):
        before_its_deadline(Run(expiring(PAST), around), started)


def test_a_job_whose_deadline_passes_ends_at_its_next_step(around: Around) -> None:
    run = Run(expiring(SOON), around)

    def slow(run: Run) -> Explained:
        run.request = expiring(PAST)
        return explained(run)

    with pytest.raises(JobExpired):
        before_its_deadline(run, slow)


@pytest.mark.parametrize("later", [None, SOON])
def test_a_deadline_that_was_moved_meanwhile_counts(around: Around, later: datetime | None) -> None:
    around.ledger.put_request(expiring(PAST))
    around.ledger.move_deadline(request_for().job_id, later)
    run = Run(expiring(PAST), around)
    before_its_deadline(run, explained)
    assert run.request.expires_at == later
