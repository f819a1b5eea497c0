"""What becomes of jobs when S3 refuses, hangs or is busy at the worst moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from medgemma_client.job import Job
from tests.faults.scene import Scene
from tests.service.harness import WorkerProcess, until
from tests.stub_engine import ANSWER

WAIT = 30.0
HELD = 1.0
"""Seconds for which S3 is away at least, once the worker has seen it."""
AWAY = "waiting for a part that is away"


def busy(scene: Scene) -> None:
    scene.s3.slow(0.0)
    scene.s3.busy()


KINDS: dict[str, Callable[[Scene], None]] = {
    "refuses": lambda scene: scene.s3.refuse(),
    "hangs": lambda scene: scene.s3.hang(),
    "answers 503": busy,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_that_fails_before_the_mark_is_waited_for_with_the_message_kept(
    scene: Scene, kind: str
) -> None:
    """Fault 10: S3 refuses, hangs or answers 503 between an artifact and the mark; no
    acknowledgement before the commit, no success without all artifacts, success once it is back."""
    at_the_mark = threading.Event()

    def is_mark(method: str, path: str) -> bool:
        if method == "PUT" and path.endswith("/result.json"):
            at_the_mark.set()
            return True
        return False

    scene.s3.slow(WAIT, is_mark)  # so that it is on its way when the store fails
    with scene.worker as worker:
        job = scene.ask("Between the two?")
        assert at_the_mark.wait(WAIT), worker.log
        assert len(scene.artifacts_of(job)) == 3
        KINDS[kind](scene)
        is_kept(scene, job, worker)
        scene.s3.restore()
        assert job.wait(WAIT).answer == ANSWER
        until(lambda: scene.messages() == 0, WAIT, lambda: worker.log)
    scene.settle([job])


def test_a_store_that_takes_one_artifact_and_not_another_is_given_no_mark(scene: Scene) -> None:
    """Fault 10, between two artifacts."""
    scene.s3.busy(lambda method, path: method == "PUT" and path.endswith("/overlay-0.png"))
    with scene.worker as worker:
        job = scene.ask("All or nothing?")
        is_kept(scene, job, worker)
        assert "overlay-0.png" not in scene.artifacts_of(job)
        scene.s3.restore()
        assert job.wait(WAIT).answer == ANSWER
    scene.settle([job])


def test_a_store_that_is_away_before_a_job_begins_sends_it_back_to_the_queue(scene: Scene) -> None:
    """Fault 10, before the job that was next: it is taken, and put back, and loses no attempt."""
    with scene.worker as worker:
        first, second = scene.ask("gate"), scene.ask("Next?")
        scene.running(first)
        scene.s3.refuse()
        scene.open_gate()
        until(lambda: AWAY in worker.log, WAIT, lambda: worker.log)
        scene.s3.restore()
        for job in (first, second):
            assert job.wait(WAIT).record.attempt == 1
    scene.settle([first, second])


def is_kept(scene: Scene, job: Job, worker: WorkerProcess) -> None:
    """Until the worker knows that the store is away, and on: the message is there, and no mark."""
    start, seen = time.monotonic(), 0.0
    while not seen or time.monotonic() < seen + HELD:
        assert scene.mark(job) is None
        if scene.artifacts_of(job):
            assert scene.messages() == 1
        if not seen and AWAY in worker.log:
            seen = time.monotonic()
        assert time.monotonic() < start + WAIT, worker.log
        time.sleep(0.05)
