"""What is ready is published soon, whatever comes along with it."""

from __future__ import annotations

from collections.abc import Sequence
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

import pytest

from medgemma_client.backfill.patience import StoppedError
from medgemma_client.backfill.publishing import Ready, Shards
from medgemma_tasks.live import LiveState
from tests.parts import JOB, live, redis_fake, settings

__all__ = ["live", "redis_fake", "settings"]

WAIT = 20.0


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> SimpleQueue[Sequence[str]]:
    found: SimpleQueue[Sequence[str]] = SimpleQueue()

    def publish(app: object, settings: object, model: str, jobs: Sequence[str], **_: Any) -> None:
        found.put(jobs)

    monkeypatch.setattr("medgemma_tasks.queue.publish", publish)
    return found


def test_a_row_is_published_though_others_that_need_no_message_keep_coming(
    live: LiveState, published: SimpleQueue[Sequence[str]]
) -> None:
    """And whoever names a run's jobs is called meanwhile: of such rows there may be a million."""
    stop, told = Event(), SimpleQueue[int]()

    def before(rows: Sequence[Ready]) -> list[str]:
        told.put(len(rows))
        return [row.job_id for row in rows]

    shards = Shards(live, "phantom", 8, before, stop)

    def run() -> None:
        with pytest.raises(StoppedError):
            shards.run()

    def others_come() -> None:
        while not stop.wait(0.001):
            shards.add([])

    threads = [Thread(target=task) for task in (run, others_come)]
    for thread in threads:
        thread.start()
    try:
        assert told.get(timeout=WAIT) == 0
        shards.add([Ready("item", JOB, batch=True)])
        assert published.get(timeout=WAIT) == [JOB]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
