"""Where many jobs stand: as ``Job.status`` says, and the store is asked as seldom as can be."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from medgemma_client import statuses as module
from medgemma_client.statuses import Statuses
from medgemma_tasks.errors import JobNotFound
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import Live, Stage, State
from tests.parts import record_of, request_for

WAIT = 20.0


class Counted:
    """The ledger's store, and how often it was read."""

    def __init__(self, ledger: Ledger) -> None:
        self.reads = 0
        self._get, self._exists = ledger.store.get, ledger.store.exists
        self.slow: threading.Event | None = None
        ledger.store.get = self.get  # type: ignore[method-assign]
        ledger.store.exists = self.exists  # type: ignore[method-assign]

    def get(self, *args: Any) -> bytes | None:
        self.reads += 1
        if self.slow is not None:
            self.slow.wait(30)
        return self._get(*args)

    def exists(self, key: str) -> bool:
        self.reads += 1
        return self._exists(key)


@pytest.fixture
def job(ledger: Ledger) -> str:
    """One that was submitted."""
    request = request_for()
    ledger.put_request(request)
    return request.job_id


@pytest.fixture
def counted(ledger: Ledger, job: str) -> Counted:
    return Counted(ledger)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What ``time.monotonic`` says there."""
    now = [1000.0]

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return now[0]

    monkeypatch.setattr(module, "time", Clock)
    return now


@pytest.fixture
def found(ledger: Ledger, live: LiveState) -> Statuses:
    statuses = Statuses(ledger.store, live)
    statuses.hear(True)
    return statuses


def test_a_job_goes_through_its_states(
    found: Statuses, ledger: Ledger, live: LiveState, job: str
) -> None:
    assert found.look("local", job).state is State.SUBMITTED
    live.report(job, Live(stage=Stage.EXPLAINING, progress=0.5, attempt=1))
    status = found.look("local", job)
    assert (status.state, status.stage, status.progress) == (State.RUNNING, Stage.EXPLAINING, 0.5)
    ledger.commit(record_of(job))
    found.changed("local", job)
    assert found.look("local", job).state is State.SUCCEEDED


def test_whoever_asks_for_another_tenants_job_is_told_that_there_is_none(
    found: Statuses, job: str
) -> None:
    found.look("local", job)
    with pytest.raises(JobNotFound):
        found.look("other", job)


def test_the_store_is_asked_once_for_a_while(
    found: Statuses, counted: Counted, clock: list[float], ledger: Ledger, job: str
) -> None:
    ledger.commit(record_of(job))
    counted.reads = 0
    for _ in range(20):
        clock[0] += 1
        found.look("local", job)
    assert counted.reads == 1
    clock[0] += module.SUCCEEDED
    found.look("local", job)
    assert counted.reads == 2


def test_it_is_asked_once_for_all_who_ask_at_the_same_moment(
    found: Statuses, counted: Counted, job: str
) -> None:
    counted.slow = threading.Event()
    asking = [threading.Thread(target=found.look, args=("local", job)) for _ in range(8)]
    for thread in asking:
        thread.start()
    counted.slow.set()
    for thread in asking:
        thread.join()
    assert counted.reads == 2  # for a mark, and for the request


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED])
def test_a_failure_is_not_told_for_longer_than_a_second_after_the_job_was_put_back(
    state: State, found: Statuses, clock: list[float], ledger: Ledger, job: str
) -> None:
    mark = record_of(job, state)
    ledger.commit(mark)
    assert found.look("local", job).state is state
    assert ledger.archive(mark)
    clock[0] += module.SURELY
    assert found.look("local", job).state is State.SUBMITTED


def test_a_success_that_was_purged_is_not_told_for_longer_than_said_and_nothing_else_then(
    found: Statuses, clock: list[float], ledger: Ledger, job: str
) -> None:
    assert found.look("local", job).state is State.SUBMITTED
    ledger.commit(record_of(job))
    found.changed("local", job)
    assert found.look("local", job).state is State.SUCCEEDED
    ledger.store.delete(*ledger.store.keys(f"local/jobs/{job}/"))
    clock[0] += module.SUCCEEDED
    with pytest.raises(JobNotFound):
        found.look("local", job)


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.CANCELLED])
def test_an_earlier_end_is_not_told_once_the_job_is_queued_again_by_whomever(
    state: State, found: Statuses, ledger: Ledger, live: LiveState, job: str
) -> None:
    ledger.commit(record_of(job, state))
    assert found.look("local", job).state is state
    ledger.store.delete(f"local/jobs/{job}/result.json")
    live.mark_queued([job])
    assert found.look("local", job).state is State.SUBMITTED


def test_an_earlier_end_that_another_was_being_told_is_not_told_once_the_job_is_queued_again(
    found: Statuses, ledger: Ledger, live: LiveState, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.commit(record_of(job, State.FAILED))
    get, on_its_way, waited_for = ledger.store.get, threading.Event(), threading.Event()

    def slow(*args: Any) -> bytes | None:
        content = get(*args)
        if not on_its_way.is_set():
            on_its_way.set()
            assert waited_for.wait(WAIT)
        return content

    class Answer(Future[Any]):
        def result(self, timeout: float | None = None) -> Any:
            waited_for.set()
            return super().result(timeout)

    monkeypatch.setattr(ledger.store, "get", slow)
    monkeypatch.setattr(module, "Future", Answer)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(found.look, "local", job)
        assert on_its_way.wait(WAIT)
        ledger.store.delete(f"local/jobs/{job}/result.json")
        live.mark_queued([job])
        assert found.look("local", job).state is State.SUBMITTED
        assert first.result().state is State.FAILED


def test_where_nothing_is_heard_it_is_asked_each_second(
    found: Statuses, counted: Counted, clock: list[float], job: str
) -> None:
    found.hear(False)
    for _ in range(3):
        clock[0] += module.SURELY
        found.look("local", job)
    assert counted.reads == 4  # the request is looked for once


def test_what_was_being_asked_while_it_changed_is_not_kept(
    found: Statuses, counted: Counted, ledger: Ledger, job: str
) -> None:
    counted.slow = threading.Event()
    asking = threading.Thread(target=found.look, args=("local", job))
    asking.start()
    while not counted.reads:
        pass
    ledger.commit(record_of(job))
    found.changed("local", job)
    counted.slow.set()
    asking.join()
    assert found.look("local", job).state is State.SUCCEEDED
