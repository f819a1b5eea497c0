"""A client over parts without servers, and a worker that is a function call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import fakeredis
import pytest

from medgemma_client.client import Client
from medgemma_client.job import Job
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.settings import Settings
from medgemma_worker.board import Board
from medgemma_worker.job import JobRunner
from tests.parts import boto_session, ledger, live, redis_fake, settings, store
from tests.stub_engine import StubEngine
from tests.worker.direct import Direct

__all__ = ["boto_session", "ledger", "live", "redis_fake", "settings", "store"]


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of all jobs that were put on the queue."""
    found: list[str] = []

    def publish(
        app: object, settings: Settings, model: str, job_ids: Sequence[str], **options: Any
    ) -> None:
        found.extend(job_ids)

    monkeypatch.setattr("medgemma_tasks.queue.publish", publish)
    return found


@pytest.fixture
def client(
    settings: Settings,
    ledger: Ledger,
    redis_fake: fakeredis.FakeRedis,
    published: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Client:
    monkeypatch.setattr("medgemma_tasks.connection.connect", lambda settings: redis_fake)
    ledger.publish_model(StubEngine().served)
    client = Client(settings)
    client._ledger.store.__dict__["_session"] = ledger.store._session
    return client


@pytest.fixture
def run(ledger: Ledger, live: LiveState, settings: Settings) -> Callable[[Job], None]:
    """What a worker does with a job."""
    engine = StubEngine()
    runner = JobRunner(engine, Direct(engine), ledger, live, settings, Board())
    return lambda job: runner.run(job.id)
