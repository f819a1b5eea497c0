from __future__ import annotations

import pytest

from medgemma_tasks.errors import BrokerUnreachable, JobCancelled
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import Live, Stage
from medgemma_worker.wrappers.cancellation import Progress
from medgemma_worker.wrappers.run import Run
from tests.parts import request_for

REQUEST = request_for()
JOB = REQUEST.job_id
RUN: Run = Run(REQUEST, None)  # type: ignore[arg-type]


class CountingLive:
    """Counts reports; Redis is away while ``away`` is set."""

    def __init__(self) -> None:
        self.reports: list[Live] = []
        self.away = False

    def report(self, job_id: str, live: Live) -> bool:
        self.reports.append(live)
        if self.away:
            raise BrokerUnreachable("away")
        return False


def progress(live: CountingLive) -> Progress:
    return Progress(live, RUN)  # type: ignore[arg-type]


def test_every_change_of_stage_is_reported_but_not_every_step() -> None:
    live = CountingLive()
    report = progress(live)
    for stage in (Stage.GENERATING, Stage.EXPLAINING):
        for step in range(100):
            report(stage, step / 100)
    assert [state.stage for state in live.reports[:2]] == [Stage.GENERATING, Stage.EXPLAINING]
    assert len(live.reports) < 10


def test_a_cancelled_job_stops_at_its_next_report(live: LiveState) -> None:
    report = Progress(live, RUN)
    report(Stage.GENERATING, 0.0)
    live.cancel(JOB)
    with pytest.raises(JobCancelled):
        report(Stage.EXPLAINING, 0.0)


def test_redis_being_away_stops_no_job_and_is_not_asked_at_every_step() -> None:
    live = CountingLive()
    live.away = True
    report = progress(live)
    for stage in Stage:
        report(stage, 0.5)
    assert len(live.reports) == 1


def test_progress_stays_between_nothing_and_all() -> None:
    live = CountingLive()
    report = progress(live)
    report(Stage.LOADING, -1.0)
    report(Stage.STORING, 1.5)
    assert [state.progress for state in live.reports] == [0.0, 1.0]
