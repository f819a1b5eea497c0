"""Running a job again that ended badly: once, however many ask for it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from threading import Barrier

import pytest

from medgemma_tasks.errors import BrokerUnreachable, InvalidRequest, JobNotFailed, JobNotFound
from medgemma_tasks.layout import job_prefix, result_key
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import State
from medgemma_tasks.putting_back import put_back, requeue
from medgemma_tasks.reconcile import Reconciler
from medgemma_tasks.store import Store
from tests.parts import JOB, record_of, request_for

Sent = list[tuple[str, str, str, bool]]


@pytest.fixture
def sent() -> Sent:
    return []


@pytest.fixture
def job(ledger: Ledger) -> str:
    """A job that failed."""
    request = request_for()
    ledger.put_request(request)
    ledger.commit(record_of(request.job_id, State.FAILED))
    return request.job_id


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED])
def test_a_job_that_ended_badly_starts_afresh(
    ledger: Ledger, live: LiveState, sent: Sent, state: State
) -> None:
    request = request_for()
    ledger.put_request(request)
    ledger.commit(record_of(request.job_id, state))
    live.cancel(request.job_id)
    live.start_attempt(request.job_id, token_hex(4))
    assert requeue(lambda *message: sent.append(message), ledger, request.job_id)
    assert sent == [("phantom", "local", request.job_id, False)]
    assert ledger.record(request.job_id) is None
    assert len(ledger.store.keys(job_prefix("local", request.job_id) + "history/")) == 1
    assert live.under_way(request.job_id)
    assert not live.cancelled(request.job_id)
    assert live.start_attempt(request.job_id, token_hex(4)) == 1


def test_a_job_goes_back_to_the_queue_it_was_meant_for(ledger: Ledger, sent: Sent) -> None:
    request = request_for().model_copy(update={"batch": True})
    ledger.put_request(request)
    mark = record_of(request.job_id, State.FAILED)
    ledger.commit(mark)
    assert put_back(lambda *message: sent.append(message), ledger, request, mark)
    assert sent == [("phantom", "local", request.job_id, True)]


def test_asked_for_twice_it_is_published_once(ledger: Ledger, job: str, sent: Sent) -> None:
    assert requeue(lambda *message: sent.append(message), ledger, job)
    with pytest.raises(JobNotFailed, match="has not ended"):
        requeue(lambda *message: sent.append(message), ledger, job)
    assert len(sent) == 1


def test_asked_for_by_many_at_once_it_is_published_once(
    ledger: Ledger, job: str, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All have seen the mark before the first archives it."""
    together, holding = Barrier(6), LiveState.holding

    def at_once(live: LiveState, name: str) -> object:
        together.wait(20)
        return holding(live, name)

    monkeypatch.setattr(LiveState, "holding", at_once)

    def ask(_: int) -> bool:
        return requeue(lambda *message: sent.append(message), ledger, job)

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(ask, range(6))) == [False] * 5 + [True]
    assert len(sent) == 1


def test_what_did_not_fail_is_left_alone(ledger: Ledger, sent: Sent) -> None:
    request = request_for()
    with pytest.raises(JobNotFound):
        requeue(lambda *message: sent.append(message), ledger, JOB)
    ledger.put_request(request)
    with pytest.raises(JobNotFailed, match="has not ended"):
        requeue(lambda *message: sent.append(message), ledger, request.job_id)
    ledger.commit(record_of(request.job_id))
    with pytest.raises(JobNotFailed, match="succeeded"):
        requeue(lambda *message: sent.append(message), ledger, request.job_id)
    ledger.store.put(result_key("local", request.job_id), b'{"schema_version": 99}')
    with pytest.raises(InvalidRequest):
        requeue(lambda *message: sent.append(message), ledger, request.job_id)
    assert sent == []


@pytest.mark.parametrize(("hours", "kept"), [(-1, False), (1, True)])
def test_a_deadline_that_has_passed_is_dropped(
    ledger: Ledger, sent: Sent, hours: int, kept: bool
) -> None:
    deadline = datetime.now(UTC) + timedelta(hours=hours)
    request = request_for().model_copy(update={"expires_at": deadline})
    ledger.put_request(request)
    ledger.commit(record_of(request.job_id, State.FAILED))
    requeue(lambda *message: sent.append(message), ledger, request.job_id)
    again = ledger.request(request.job_id)
    assert again is not None
    assert again.expires_at == (deadline if kept else None)


def test_a_message_that_could_not_be_sent_is_the_reconcilers(
    store: Store, live: LiveState, ledger: Ledger, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise BrokerUnreachable("away")

    with pytest.raises(BrokerUnreachable):
        requeue(away, ledger, job)
    assert ledger.record(job) is None
    monkeypatch.setattr("medgemma_tasks.reconcile.grace", lambda _: -60.0)
    reconciler = Reconciler(store, live, settle=0, publish=lambda *_: None)
    assert reconciler.sweep().put_back == [job]
