"""A job's whole way: client, Redis, worker process, S3, client."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from medgemma_client.client import Client
from medgemma_tasks.errors import (
    InternalError,
    JobCancelled,
    JobNotFinished,
    JobNotFound,
    KeywordNotInAnswer,
    ModelMismatch,
    ModelNotServed,
    OutOfMemory,
    WaitTimeout,
)
from medgemma_tasks.models import State, Status
from tests.parts import OTHER_JOB
from tests.service.harness import Service, until
from tests.stub_engine import ANSWER, StubEngine

WAIT = 30.0


def test_a_question_is_answered_and_explained(service: Service) -> None:
    result = service.ask("What is there?").wait(WAIT)
    assert result.answer == ANSWER
    assert result.heatmap.shape == (16, 16)
    assert result.heatmap.dtype == np.float32
    assert (result.heatmap.max(), result.scores.max()) == (1.0, 0.25)
    assert np.unravel_index(result.heatmap.argmax(), (16, 16)) == (3, 0)
    assert result.overlay().size == (8, 6)
    assert result.record.attempt == 1
    assert {"waiting", "loading", "storing"} <= set(result.record.seconds)


def test_every_artifact_is_what_the_mark_names(service: Service) -> None:
    result = service.ask("Which artifacts?").wait(WAIT)
    assert set(result.record.artifacts) == {"relevancy.npz", "heatmap-0.png", "overlay-0.png"}
    for name, artifact in result.record.artifacts.items():
        content = result.artifact(name)
        assert hashlib.sha256(content).hexdigest() == artifact.sha256
        assert len(content) == artifact.size


def test_the_same_question_runs_once(service: Service) -> None:
    first = service.ask("Once?")
    second = service.ask("Once?")
    assert first.id == second.id
    first.wait(WAIT)
    third = service.ask("Once?")
    assert third.result().answer == ANSWER
    assert service.worker.starts(first) == 1


def test_force_makes_it_another_job(service: Service) -> None:
    first, second = service.ask("Again?"), service.ask("Again?", force=True)
    assert first.id != second.id
    second.wait(WAIT)


def test_progress_is_seen_on_the_way(service: Service) -> None:
    seen: list[Status] = []

    def watch(status: Status) -> None:
        seen.append(status)
        if status.state is State.RUNNING:
            service.worker.gate.touch()

    service.ask("gate").wait(WAIT, progress=watch)
    service.worker.gate.unlink()
    assert State.RUNNING in {status.state for status in seen}
    assert seen[-1].state is State.SUCCEEDED


def test_a_job_is_found_by_its_id_from_elsewhere(service: Service) -> None:
    job = service.ask("Found again?")
    job.wait(WAIT)
    assert Client(service.settings).job(job.id).result().answer == ANSWER


def test_an_unknown_id_is_not_found(service: Service) -> None:
    with pytest.raises(JobNotFound):
        service.client.job(OTHER_JOB)


def test_a_wait_that_ends_leaves_the_job_running(service: Service) -> None:
    job = service.ask("gate patiently")
    with pytest.raises(WaitTimeout):
        job.wait(0.1)
    with pytest.raises(JobNotFinished):
        job.result()
    service.worker.gate.touch()
    assert job.wait(WAIT).answer == ANSWER
    service.worker.gate.unlink()


def test_a_keyword_that_is_not_in_the_answer_keeps_the_answer(service: Service) -> None:
    job = service.ask("Keyword?", keyword="cardiomegaly")
    with pytest.raises(KeywordNotInAnswer) as caught:
        job.wait(WAIT)
    assert caught.value.details == {"keyword": "cardiomegaly", "answer": ANSWER}
    record = service.ledger.record(job.id)
    assert record is not None
    assert (record.state, record.answer) == (State.FAILED, ANSWER)
    assert job.status().error is not None


def test_a_failed_job_is_archived_and_runs_again(service: Service) -> None:
    for _ in range(2):
        job = service.ask("Twice?", keyword="cardiomegaly")
        with pytest.raises(KeywordNotInAnswer):
            job.wait(WAIT)
    assert service.worker.starts(job) == 2
    (archived,) = service.ledger.store.keys(f"local/jobs/{job.id}/history/")
    content = service.ledger.store.get(archived)
    assert content is not None
    assert json.loads(content)["error"]["code"] == "keyword_not_in_answer"


def test_a_running_job_is_cancelled_and_its_worker_is_free(service: Service) -> None:
    job = service.ask("sleep 120")
    service.running(job)
    assert job.cancel()
    with pytest.raises(JobCancelled):
        job.wait(WAIT)
    assert service.ask("Free again?").wait(WAIT).answer == ANSWER
    assert job.status().state is State.CANCELLED
    assert not job.cancel()


def test_a_queued_job_that_was_cancelled_never_starts(service: Service) -> None:
    busy = service.ask("gate busily")
    service.running(busy)
    queued = service.ask("Never started?")
    assert queued.cancel()
    with pytest.raises(JobCancelled):
        queued.result()
    service.worker.gate.touch()
    busy.wait(WAIT)
    service.worker.gate.unlink()
    service.ask("After it?").wait(WAIT)
    assert service.worker.starts(queued) == 0


def test_a_cancelled_job_runs_when_it_is_asked_again(service: Service) -> None:
    job = service.ask("sleep 5 then think again")
    service.running(job)
    job.cancel()
    until(lambda: f"{job.id}: job_cancelled" in service.worker.log, 30)
    again = service.ask("sleep 5 then think again")
    assert again.id == job.id
    service.running(again)
    assert again.cancel()


def test_memory_that_runs_out_is_the_jobs_failure_not_the_workers(service: Service) -> None:
    job = service.ask("memory please")
    with pytest.raises(OutOfMemory):
        job.wait(WAIT)
    assert service.ask("Alive after that?").wait(WAIT).answer == ANSWER
    assert service.worker.starts(job) == 1


def test_a_defect_is_logged_under_its_job_without_patient_text(service: Service) -> None:
    job = service.ask("crash canary-prompt")
    with pytest.raises(InternalError) as caught:
        job.wait(WAIT)
    assert "canary" not in caught.value.message
    assert f"job {job.id}: internal_error" in service.worker.log
    assert "stub_engine.py" in service.worker.log


def test_another_revision_is_refused_by_the_worker(service: Service) -> None:
    served = StubEngine().served
    newer = StubEngine(revision="stub-2").served
    service.ledger.publish_model(newer)
    try:
        job = service.ask("Which revision?")
    finally:
        service.ledger.publish_model(served)
    with pytest.raises(ModelMismatch, match="stub-2"):
        job.wait(WAIT)
    assert service.worker.starts(job) == 0


def test_a_model_that_nobody_serves_is_refused_by_the_client(service: Service) -> None:
    with pytest.raises(ModelNotServed, match="phantom"):
        service.ask("Anybody?", model="google/medgemma-27b-it")


def test_no_patient_text_is_in_the_log_or_in_redis(service: Service) -> None:
    busy = service.ask("gate canary-prompt-a")
    service.running(busy)
    service.ask("canary-prompt-b", system="canary-system", keyword="canary-keyword")
    dumps = [service.dump()]
    service.worker.gate.touch()
    busy.wait(WAIT)
    service.worker.gate.unlink()
    with pytest.raises(KeywordNotInAnswer):
        service.ask("canary-prompt-b", system="canary-system", keyword="canary-keyword").wait(WAIT)
    dumps.append(service.dump())
    assert f'"jobs": ["{busy.id}"]' in dumps[0]
    for text in (*dumps, service.worker.log):
        assert "canary" not in text


def test_every_key_of_ours_in_redis_goes_away_by_itself(service: Service) -> None:
    service.ask("Keys?").wait(WAIT)
    keys = service.redis.keys("medgemma:*")
    # -1 is one that stays; one that is gone by now has gone away.
    assert all(service.redis.pttl(key) != -1 for key in keys)
