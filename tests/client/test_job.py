from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable

import fakeredis
import pytest

from medgemma_client.client import Client
from medgemma_client.job import Job
from medgemma_client.watching import in_words, overall, watcher
from medgemma_tasks.backlog import tell_places
from medgemma_tasks.errors import (
    BrokerUnreachable,
    InternalError,
    JobCancelled,
    JobNotFinished,
    JobNotFound,
    JobPurged,
    KeywordNotInAnswer,
    WaitTimeout,
)
from medgemma_tasks.layout import request_key
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import Live, Stage, State, Status
from medgemma_tasks.queue import queue_names
from tests.parts import JOB, OTHER_JOB, picture, record_of, request_for
from tests.stub_engine import ANSWER

Run = Callable[[Job], None]


@pytest.fixture
def job(client: Client) -> Job:
    return client.submit(picture(), "What?")


def test_a_job_is_submitted_then_running_then_succeeded(
    job: Job, live: LiveState, run: Run
) -> None:
    assert job.status().state is State.SUBMITTED
    live.report(job.id, Live(stage=Stage.EXPLAINING, progress=0.5, attempt=2))
    status = job.status()
    assert (status.state, status.stage, status.progress, status.attempt) == (
        State.RUNNING,
        Stage.EXPLAINING,
        0.5,
        2,
    )
    run(job)
    assert job.status().state is State.SUCCEEDED
    assert job.wait(1).answer == job.result().answer == ANSWER


def test_no_job_is_pending_that_nobody_submitted(ledger: Ledger, live: LiveState) -> None:
    job = Job(OTHER_JOB, ledger, live)
    for call in (job.status, job.request, job.result, job.wait, job.cancel):
        with pytest.raises(JobNotFound):
            call()


def test_a_job_knows_what_was_asked(job: Job) -> None:
    (asked,) = job.request().messages
    assert [part.text for part in asked.content if part.type == "text"] == ["What?"]


def test_a_result_that_is_not_there_yet_says_so(job: Job) -> None:
    with pytest.raises(JobNotFinished):
        job.result()
    with pytest.raises(WaitTimeout):
        job.wait(0.1)
    with pytest.raises(WaitTimeout):
        job.wait(0)


def test_a_failure_is_raised_as_its_own_class_with_its_details(client: Client, run: Run) -> None:
    job = client.submit(picture(), "What?", keyword="cardiomegaly")
    run(job)
    for call in (job.wait, job.result):
        with pytest.raises(KeywordNotInAnswer) as caught:
            call()
        assert caught.value.details == {"keyword": "cardiomegaly", "answer": ANSWER}
    crashed = client.submit(picture(), "crash")
    run(crashed)
    with pytest.raises(InternalError):
        crashed.wait()


def test_a_waiter_is_woken_long_before_its_next_poll(job: Job, run: Run) -> None:
    thread = threading.Timer(0.3, run, (job,))
    thread.start()
    start = time.monotonic()
    job.wait(20, poll=15.0)
    assert time.monotonic() - start < 10.0
    thread.join()


def test_who_waits_is_told_that_the_job_was_deleted_meanwhile(
    job: Job, ledger: Ledger, live: LiveState, run: Run
) -> None:
    """By the worker that finds no request, or, where none comes by, at the next look."""
    for worker_comes in (True, False):
        ledger.put_request(request_for("What?"))
        waits = Job(request_for("What?").job_id, ledger, live)

        def purge(waits: Job = waits, worker_comes: bool = worker_comes) -> None:
            ledger.store.delete(request_key("local", waits.id))
            if worker_comes:
                run(waits)

        thread = threading.Timer(0.2, purge)
        thread.start()
        start = time.monotonic()
        with pytest.raises(JobPurged):
            waits.wait(20, poll=15.0 if worker_comes else 0.05)
        assert time.monotonic() - start < 10.0
        thread.join()


def test_a_job_that_runs_is_waited_for_though_its_request_is_deleted(
    job: Job, ledger: Ledger, live: LiveState
) -> None:
    live.report(job.id, Live(stage=Stage.EXPLAINING, progress=0.5, attempt=1))
    delete = threading.Timer(0.2, ledger.store.delete, (request_key("local", job.id),))
    commit = threading.Timer(2.5, ledger.commit, (record_of(job.id),))
    for thread in (delete, commit):
        thread.start()
    assert job.wait(20, poll=1.0).record.state is State.SUCCEEDED
    commit.join()


def test_without_redis_the_store_alone_tells(
    job: Job, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*args: object) -> Live:
        raise BrokerUnreachable("away")

    monkeypatch.setattr(LiveState, "read", away)
    monkeypatch.setattr(LiveState, "listening", away)
    assert job.status().state is State.SUBMITTED
    thread = threading.Timer(0.2, run, (job,))
    thread.start()
    assert job.wait(20).answer == ANSWER
    thread.join()


def test_cancelling_writes_the_mark_and_tells_the_worker(job: Job, live: LiveState) -> None:
    assert job.cancel()
    assert live.cancelled(job.id)
    assert job.status().state is State.CANCELLED
    with pytest.raises(JobCancelled):
        job.wait(1)
    assert not job.cancel()


def test_who_cancels_is_told_so_though_redis_goes_away_before_the_others_are_woken(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*args: object) -> None:
        raise BrokerUnreachable("Redis is away.")

    monkeypatch.setattr(LiveState, "announce", away)
    assert job.cancel()
    assert job.status().state is State.CANCELLED


def test_a_worker_that_writes_the_cancelled_mark_first_cancels_it_too(
    job: Job, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel = LiveState.cancel

    def heard_at_once(live: LiveState, job_id: str) -> None:
        cancel(live, job_id)
        run(job)

    monkeypatch.setattr(LiveState, "cancel", heard_at_once)
    assert job.cancel()
    assert job.status().state is State.CANCELLED


def test_a_job_that_succeeds_while_it_is_cancelled_is_not_cancelled(
    job: Job, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LiveState, "cancel", lambda live, job_id: run(job))
    assert not job.cancel()
    assert job.result().answer == ANSWER


def test_a_job_that_ended_cannot_be_cancelled(job: Job, run: Run) -> None:
    run(job)
    assert not job.cancel()
    assert job.result().answer == ANSWER


def test_an_error_of_a_newer_version_is_still_an_error(ledger: Ledger, live: LiveState) -> None:
    ledger.commit(record_of(JOB, State.FAILED))
    with pytest.raises(Exception, match="failed"):
        Job(JOB, ledger, live).result()


def test_every_status_is_shown_to_who_watches(job: Job, run: Run) -> None:
    seen: list[Status] = []
    thread = threading.Timer(0.1, run, (job,))
    thread.start()
    job.wait(20, progress=seen.append)
    thread.join()
    assert seen[0].state is State.SUBMITTED
    assert seen[-1].state is State.SUCCEEDED


def test_a_bar_goes_one_way_through_the_stages() -> None:
    shares = [
        overall(Status(job_id=JOB, state=State.RUNNING, stage=stage, progress=progress))
        for stage in Stage
        for progress in (0.0, 0.5, 1.0)
    ]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)


def test_a_bar_can_be_had_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with watcher(True) as watch:
        watch(Status(job_id=JOB, state=State.RUNNING, stage=Stage.GENERATING, progress=0.5))
        watch(Status(job_id=JOB, state=State.SUBMITTED, ahead=12))
    with watcher(None) as watch:
        watch(Status(job_id=JOB, state=State.SUBMITTED))
    assert capsys.readouterr().out == ""


def test_a_job_shows_its_id_and_nothing_else(job: Job) -> None:
    assert repr(job) == f"Job('{job.id}')"


def queued(redis: fakeredis.FakeRedis, *job_ids: str) -> None:
    """Messages as they lie on the queue, in the order in which they are taken."""
    for job_id in job_ids:
        body = json.dumps([[{"schema": 1, "tenant": "local", "jobs": [job_id]}], {}, {}])
        item = {"body": base64.b64encode(body.encode()).decode()}
        redis.lpush(queue_names("phantom")[0], json.dumps(item))


def test_a_job_that_waits_knows_its_place_as_it_is_told(
    job: Job, redis_fake: fakeredis.FakeRedis, live: LiveState
) -> None:
    assert job.status().ahead is None
    queued(redis_fake, "1" * 32, "2" * 32, job.id)
    tell_places(redis_fake, "phantom")
    assert job.status().ahead == 2
    seen: list[Status] = []
    with pytest.raises(WaitTimeout):
        job.wait(0.2, progress=seen.append)
    assert {status.ahead for status in seen} == {2}
    live.report(job.id, Live(stage=Stage.EXPLAINING, progress=0.5, attempt=1))
    assert job.status().ahead is None


@pytest.mark.parametrize(
    ("state", "stage", "ahead", "words"),
    [
        (State.SUBMITTED, None, None, "submitted"),
        (State.SUBMITTED, None, 0, "queued, next"),
        (State.SUBMITTED, None, 12, "queued, 12 ahead"),
        (State.SUBMITTED, None, 1999, "queued, 1,999 ahead"),
        (State.RUNNING, Stage.GENERATING, None, "generating"),
        (State.CANCELLED, None, 3, "cancelled"),
    ],
)
def test_where_a_job_stands_is_said_in_a_few_words(
    state: State, stage: Stage | None, ahead: int | None, words: str
) -> None:
    assert in_words(Status(job_id=JOB, state=state, stage=stage, ahead=ahead)) == words
