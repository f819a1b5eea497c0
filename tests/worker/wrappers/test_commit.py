from __future__ import annotations

import itertools

import pytest

from medgemma_tasks.errors import (
    BrokerUnreachable,
    KeywordNotInAnswer,
    StoreRefused,
    StoreUnreachable,
    WorkerLost,
)
from medgemma_tasks.layout import job_prefix
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import State
from medgemma_worker.stopwatch import Stopwatch
from medgemma_worker.wrappers import commit as module
from medgemma_worker.wrappers.commit import Committer, patiently
from medgemma_worker.wrappers.run import Attempt
from tests.parts import NOW, picture, request_for
from tests.stub_engine import ANSWER, StubEngine, explain

REQUEST = request_for()
JOB = REQUEST.job_id
EXPLAINED = explain(REQUEST, [picture()], StubEngine().served)


@pytest.fixture
def committer(ledger: Ledger, live: LiveState) -> Committer:
    return Committer(ledger, live, JOB, NOW)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)


def test_success_names_its_artifacts_and_all_that_was_explained(
    committer: Committer, ledger: Ledger
) -> None:
    assert committer.success(Attempt(2, "ab"), EXPLAINED, Stopwatch())
    record = ledger.record(JOB)
    assert record is not None
    assert (record.state, record.attempt, record.answer) == (State.SUCCEEDED, 2, ANSWER)
    for name, file in EXPLAINED.files.items():
        assert ledger.artifact(JOB, record.artifacts[name]) == file.content


def test_the_mark_is_written_after_all_artifacts(
    committer: Committer, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    put = ledger.first_writer.put

    def look(key: str, content: bytes) -> bool:
        seen.append(len(ledger.store.keys(job_prefix("local", JOB))))
        return put(key, content)

    monkeypatch.setattr(ledger.first_writer, "put", look)
    committer.success(Attempt(1, "ab"), EXPLAINED, Stopwatch())
    assert seen == [len(EXPLAINED.files)]


def test_a_loser_leaves_the_winners_result_and_nothing_else(
    committer: Committer, ledger: Ledger
) -> None:
    assert committer.success(Attempt(1, "ab"), EXPLAINED, Stopwatch())
    before = ledger.store.keys("")
    assert not committer.success(Attempt(2, "cd"), EXPLAINED, Stopwatch())
    assert ledger.store.keys("") == before


def test_a_failure_keeps_the_answer_that_it_carries(committer: Committer, ledger: Ledger) -> None:
    error = KeywordNotInAnswer("No.", keyword="x", answer=ANSWER)
    committer.failure(error, 1, Stopwatch())
    record = ledger.record(JOB)
    assert record is not None
    assert record.error is not None
    assert (record.answer, record.error.code) == (ANSWER, "keyword_not_in_answer")


def test_a_committed_job_is_forgotten_and_announced(committer: Committer, live: LiveState) -> None:
    live.mark_queued([JOB])
    with live.listening(JOB) as bell:
        committer.success(Attempt(1, "ab"), EXPLAINED, Stopwatch())
        assert bell.wait(20.0)
    assert not live.under_way(JOB)


def test_redis_being_away_undoes_no_commit(
    committer: Committer, ledger: Ledger, live: LiveState, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(job_id: str) -> None:
        raise BrokerUnreachable("away")

    monkeypatch.setattr(live, "forget", away)
    assert committer.success(Attempt(1, "ab"), EXPLAINED, Stopwatch())
    assert ledger.finished(JOB)


def test_no_mark_is_written_when_an_artifact_is_not(
    committer: Committer, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, count = ledger.store.put, itertools.count()

    def failing(key: str, content: bytes, content_type: str = "application/json") -> None:
        if next(count) % 3 == 2:
            raise StoreUnreachable("away")
        put(key, content, content_type)

    monkeypatch.setattr(ledger.store, "put", failing)
    monkeypatch.setattr(patiently, "__defaults__", (0.0,))
    with pytest.raises(StoreUnreachable):
        committer.success(Attempt(1, "ab"), EXPLAINED, Stopwatch())
    assert not ledger.finished(JOB)


@pytest.mark.parametrize("trouble", [StoreUnreachable("away"), StoreRefused("no")])
def test_patience_waits_for_what_comes_back(trouble: Exception) -> None:
    calls = itertools.count()

    def action() -> str:
        if next(calls) < 2:
            raise trouble
        return "done"

    assert patiently(action) == "done"


def test_patience_ends() -> None:
    def action() -> None:
        raise StoreUnreachable("away")

    with pytest.raises(StoreUnreachable):
        patiently(action, 0.05)


def test_a_worker_that_stood_still_commits_nothing_whose_artifacts_are_gone(
    committer: Committer, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile another marked the job, tidied up, and somebody put it on the queue again."""
    put_artifacts = ledger.put_artifacts

    def stands_still(job_id: str, *args: object) -> object:
        stored = put_artifacts(job_id, *args)  # type: ignore[arg-type]
        Committer(ledger, ledger.first_writer.live, JOB, NOW).failure(
            WorkerLost("."), 3, Stopwatch()
        )
        mark = ledger.record(JOB)
        assert mark is not None
        assert ledger.archive(mark)
        return stored

    monkeypatch.setattr(ledger, "put_artifacts", stands_still)
    assert not committer.success(Attempt(1, "ab"), EXPLAINED, Stopwatch())
    assert not ledger.finished(JOB)


def test_what_dead_attempts_stored_goes_with_the_commit_of_a_later_one(
    committer: Committer, ledger: Ledger
) -> None:
    ledger.put_artifacts(JOB, "1-ab", {"relevancy.npz": (b"x", "x/x")})
    committer.success(Attempt(2, "cd"), EXPLAINED, Stopwatch())
    folders = {key.split("/")[3] for key in ledger.store.keys(job_prefix("local", JOB))}
    assert folders == {"2-cd", "result.json"}


def test_what_a_job_stored_in_its_next_life_is_not_tidied_up_by_its_last(
    committer: Committer, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that hears the bell puts the job back before the one who rang goes on."""
    live = ledger.first_writer.live

    def put_back(job_id: str) -> None:
        mark = ledger.record(JOB)
        assert mark is not None
        assert ledger.archive(mark)
        ledger.put_artifacts(JOB, "1-cd", {"relevancy.npz": (b"x", "x/x")})

    monkeypatch.setattr(live, "announce", put_back)
    committer.failure(WorkerLost("."), 3, Stopwatch())
    folders = {key.split("/")[3] for key in ledger.store.keys(job_prefix("local", JOB))}
    assert folders == {"1-cd", "history"}
