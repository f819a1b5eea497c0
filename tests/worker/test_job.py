from __future__ import annotations

import io
from collections.abc import Callable
from secrets import token_hex

import pytest

from medgemma_tasks.dropped import NO_REQUEST
from medgemma_tasks.errors import StoreRefused, StoreUnreachable
from medgemma_tasks.layout import request_key, result_key
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import ExplanationRecord, ExplanationRequest, State
from medgemma_tasks.settings import Settings
from medgemma_worker.board import Board
from medgemma_worker.job import JobRunner
from medgemma_worker.wrappers.commit import patiently
from tests.parts import JOB, picture, record_of, request_for
from tests.stub_engine import ANSWER, StubEngine
from tests.worker.direct import Direct

Run = Callable[..., ExplanationRecord]


@pytest.fixture
def runner(ledger: Ledger, live: LiveState, settings: Settings) -> JobRunner:
    engine = StubEngine()
    return JobRunner(engine, Direct(engine), ledger, live, settings, Board())


def submitted(ledger: Ledger, request: ExplanationRequest, *, image: bool = True) -> str:
    buffer = io.BytesIO()
    picture().save(buffer, "PNG")
    if image:
        ledger.put_input(request.images[0], buffer.getvalue())
    ledger.put_request(request)
    return request.job_id


def outcome(ledger: Ledger, job_id: str) -> tuple[State, str | None]:
    record = ledger.record(job_id)
    assert record is not None
    return record.state, None if record.error is None else record.error.code


def test_a_job_is_run_to_its_mark(runner: JobRunner, ledger: Ledger) -> None:
    job = submitted(ledger, request_for())
    runner.run(job)
    record = ledger.record(job)
    assert record is not None
    assert (record.state, record.answer, record.attempt) == (State.SUCCEEDED, ANSWER, 1)
    assert record.seconds["waiting"] > 0


def test_a_finished_job_is_passed_over(runner: JobRunner, ledger: Ledger, live: LiveState) -> None:
    job = submitted(ledger, request_for())
    ledger.commit(record_of(job, State.CANCELLED))
    runner.run(job)
    assert outcome(ledger, job)[0] is State.CANCELLED
    assert live.start_attempt(job, token_hex(4)) == 1


def test_a_job_without_a_request_is_dropped_and_counted(
    runner: JobRunner, ledger: Ledger, live: LiveState
) -> None:
    runner.run(JOB)
    assert live.dropped() == {NO_REQUEST: 1}
    assert not ledger.finished(JOB)


def test_who_asks_again_for_a_job_that_was_dropped_finds_nothing_in_the_way(
    runner: JobRunner, live: LiveState
) -> None:
    """Who waits for it is woken, and whoever submits it again has it published again."""
    live.mark_queued([JOB])
    with live.listening(JOB) as bell:
        runner.run(JOB)
        assert bell.wait(20)
    assert not live.under_way(JOB)


@pytest.mark.parametrize("content", [b"nonsense", request_for().model_dump_json().encode()])
def test_a_request_that_cannot_be_is_a_failed_job(
    runner: JobRunner, ledger: Ledger, content: bytes
) -> None:
    """Not to be read, or that of another job."""
    ledger.store.put(request_key("local", JOB), content)
    runner.run(JOB)
    assert outcome(ledger, JOB) == (State.FAILED, "invalid_request")


def test_a_cancelled_job_does_not_start(runner: JobRunner, ledger: Ledger, live: LiveState) -> None:
    job = submitted(ledger, request_for())
    live.cancel(job)
    runner.run(job)
    assert outcome(ledger, job) == (State.CANCELLED, "job_cancelled")


def test_another_models_job_is_refused(runner: JobRunner, ledger: Ledger) -> None:
    job = submitted(ledger, request_for(revision="stub-2"))
    runner.run(job)
    assert outcome(ledger, job) == (State.FAILED, "model_mismatch")


def test_a_job_started_too_often_is_lost(
    runner: JobRunner, ledger: Ledger, live: LiveState, settings: Settings
) -> None:
    job = submitted(ledger, request_for())
    for _ in range(settings.max_attempts):
        live.start_attempt(job, token_hex(4))
    runner.run(job)
    assert outcome(ledger, job) == (State.FAILED, "worker_lost")


def test_a_missing_input_is_a_failed_job(runner: JobRunner, ledger: Ledger) -> None:
    job = submitted(ledger, request_for(), image=False)
    runner.run(job)
    assert outcome(ledger, job) == (State.FAILED, "artifact_damaged")


@pytest.mark.parametrize(
    ("prompt", "code"), [("memory", "out_of_memory"), ("crash", "internal_error")]
)
def test_what_the_engine_raises_ends_in_the_record(
    runner: JobRunner, ledger: Ledger, prompt: str, code: str
) -> None:
    job = submitted(ledger, request_for(prompt))
    runner.run(job)
    assert outcome(ledger, job) == (State.FAILED, code)


@pytest.mark.parametrize("trouble", [StoreUnreachable("away"), StoreRefused("no")])
def test_trouble_with_the_store_leaves_the_job_open(
    runner: JobRunner,
    ledger: Ledger,
    live: LiveState,
    monkeypatch: pytest.MonkeyPatch,
    trouble: Exception,
) -> None:
    """An attempt that ended because the store was away, or its keys were changed, counts not."""
    job = submitted(ledger, request_for())

    def away(name: str) -> bytes:
        raise trouble

    monkeypatch.setattr(ledger, "input", away)
    with pytest.raises(type(trouble)):
        runner.run(job)
    assert ledger.store.get(result_key("local", job)) is None
    assert live.start_attempt(job, token_hex(4)) == 1


def test_a_store_that_refuses_for_a_while_costs_no_job(
    runner: JobRunner, ledger: Ledger, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys are rotated, a policy is wrong for ten seconds: nothing died, so nothing is lost."""
    job = submitted(ledger, request_for())

    def refuse(*_: object) -> None:
        raise StoreRefused("no")

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "put_artifacts", refuse)
        patch.setattr(patiently, "__defaults__", (0.0,))
        for _ in range(settings.max_attempts):
            with pytest.raises(StoreRefused):
                runner.run(job)
    runner.run(job)
    assert outcome(ledger, job) == (State.SUCCEEDED, None)


def test_a_mark_of_failure_that_the_store_refuses_for_a_while_is_no_lost_worker(
    runner: JobRunner, ledger: Ledger, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No process died: the job ends in the end with what was wrong with it."""
    job = submitted(ledger, request_for("crash"))

    def refuse(*_: object) -> bool:
        raise StoreRefused("no")

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "commit", refuse)
        patch.setattr(patiently, "__defaults__", (0.0,))
        for _ in range(settings.max_attempts):
            with pytest.raises(StoreRefused):
                runner.run(job)
            assert not runner.died(job)
    runner.run(job)
    assert outcome(ledger, job) == (State.FAILED, "internal_error")
