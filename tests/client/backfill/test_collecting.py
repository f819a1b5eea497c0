"""Marks are found as they come; what keeps them from being found ends a run, and no row."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue

import fakeredis
import pytest

from medgemma_client.backfill.collecting import Collector
from medgemma_client.backfill.patience import Away
from medgemma_tasks.errors import (
    BrokerUnreachable,
    InvalidRequest,
    JobPurged,
    MedGemmaError,
    StoreRefused,
    StoreUnreachable,
)
from medgemma_tasks.layout import request_key, result_key
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import ExplanationRecord
from tests.parts import (
    OTHER_JOB,
    boto_session,
    ledger,
    live,
    record_of,
    redis_fake,
    request_for,
    settings,
    store,
)

__all__ = ["boto_session", "ledger", "live", "redis_fake", "settings", "store"]

WAIT = 20.0


class Flickering(Away):
    """Another thread is answered as soon as one has looked since when the service is away."""

    _seen: float | None = None

    @property  # type: ignore[override]
    def _since(self) -> float | None:
        seen, self._seen = self._seen, None
        return seen

    @_since.setter
    def _since(self, since: float | None) -> None:
        self._seen = since


class Told:
    """What a collector said."""

    def __init__(self, ledger: Ledger, live: LiveState) -> None:
        self.ends: SimpleQueue[tuple[str, ExplanationRecord | MedGemmaError]] = SimpleQueue()
        self.failures: SimpleQueue[Exception] = SimpleQueue()
        self.collector = Collector(ledger, live, lambda *end: self.ends.put(end), self.failures.put)


@pytest.fixture
def told(ledger: Ledger, live: LiveState) -> Told:
    return Told(ledger, live)


@pytest.fixture
def job(ledger: Ledger) -> str:
    request = request_for()
    ledger.put_request(request)
    return request.job_id


def raises(error: MedGemmaError) -> Callable[..., None]:
    def raised(*given: object) -> None:
        raise error

    return raised


def test_a_mark_is_found_though_nobody_rings(told: Told, ledger: Ledger, job: str) -> None:
    with told.collector as collector:
        assert collector.watch([job]) == [job]
        assert collector.watch([job]) == []
        ledger.commit(record_of(job))
        assert told.ends.get(timeout=WAIT) == (job, record_of(job))
    assert told.ends.empty()


def test_a_job_that_was_deleted_ends_and_one_whose_mark_cannot_be_read(
    told: Told, ledger: Ledger, job: str
) -> None:
    ledger.store.put(result_key("local", OTHER_JOB), b"nonsense")
    ledger.store.delete(request_key("local", job))
    with told.collector as collector:
        collector.watch([job, OTHER_JOB], at_once=True)
        ends = dict(told.ends.get(timeout=WAIT) for _ in range(2))
    assert {name: type(end) for name, end in ends.items()} == {
        job: JobPurged,
        OTHER_JOB: InvalidRequest,
    }
    assert told.failures.empty()


def test_a_store_that_refuses_ends_the_run_and_no_row(
    told: Told, ledger: Ledger, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "record", raises(StoreRefused("no")))
    with told.collector as collector:
        collector.watch([job], at_once=True)
        assert isinstance(told.failures.get(timeout=WAIT), StoreRefused)
    assert told.ends.empty()


def test_a_store_that_stays_away_ends_the_run_in_the_end(
    told: Told, ledger: Ledger, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medgemma_client.backfill.patience.PATIENCE", 0.1)
    monkeypatch.setattr(ledger, "record", raises(StoreUnreachable("away")))
    with told.collector as collector:
        collector.watch([job], at_once=True)
        assert isinstance(told.failures.get(timeout=WAIT), StoreUnreachable)
    assert told.ends.empty()


def test_without_redis_marks_are_found_until_it_was_away_for_too_long(
    told: Told,
    ledger: Ledger,
    live: LiveState,
    redis_fake: fakeredis.FakeRedis,
    job: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live, "hearing", raises(BrokerUnreachable("away")))
    ledger.commit(record_of(job))
    with told.collector as collector:
        collector.watch([job])
        assert told.ends.get(timeout=WAIT)[0] == job
        monkeypatch.setattr("medgemma_client.backfill.patience.PATIENCE", 0.1)
        assert isinstance(told.failures.get(timeout=WAIT), BrokerUnreachable)


def test_a_service_that_answers_between_two_failures_was_not_away_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("medgemma_client.backfill.patience.PATIENCE", -1.0)
    away, error = Away(), StoreUnreachable("away")
    away.bear(error)
    away.answers()
    away.bear(error)
    with pytest.raises(StoreUnreachable):
        away.bear(error)


def test_a_service_that_answers_one_thread_while_it_fails_another_is_borne() -> None:
    away, error = Flickering(), StoreUnreachable("away")
    away.bear(error)
    away.bear(error)
    assert away._since is None
