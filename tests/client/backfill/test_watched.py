"""A row comes to what its job does from then on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from typing import Any

import pytest

from medgemma_client.backfill.item import Item, RowState
from medgemma_client.backfill.journal import Journal
from medgemma_client.backfill.publishing import Ready
from medgemma_client.backfill.rows import Row
from medgemma_client.backfill.watched import Watched
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import ExplanationRecord, State
from tests.parts import record_of, request_for

WAIT = 20.0


def row(number: int, item: str) -> Row:
    return Row(number=number, item=item, images=(), prompt="What?")


def test_a_failure_that_is_being_read_for_one_row_is_not_that_of_a_row_it_was_put_back_for(
    ledger: Ledger,
    live: LiveState,
    published: Sequence[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both ask the same question, and so have one job."""
    request = request_for()
    job = request.job_id
    ledger.put_request(request)
    ledger.commit(record_of(job, State.FAILED))
    record, was_read, put_back = ledger.record, Event(), Event()

    def slow(job_id: str) -> ExplanationRecord | None:
        found = record(job_id)
        if not was_read.is_set():
            was_read.set()
            assert put_back.wait(WAIT)
        return found

    monkeypatch.setattr(ledger, "record", slow)
    journal = Journal(tmp_path / "journal.sqlite", "run-1", "here")
    journal.meet([row(1, "new"), row(2, "again")])
    done, failures = SimpleQueue[Item](), SimpleQueue[Any]()
    with Watched(ledger, live, journal, done.put, failures.put, Event()) as watched:
        watched.submit([Ready("new", job, batch=True)], at_once=True)
        assert was_read.wait(WAIT)
        assert watched.put_back(Ready("again", job, batch=True), request)
        assert published == [job]
        put_back.set()
        first = done.get(timeout=WAIT)
        assert (first.item, first.state) == ("new", RowState.FAILED)
        ledger.commit(record_of(job))
        second = done.get(timeout=WAIT)
        assert (second.item, second.state) == ("again", RowState.SUCCEEDED)
    assert done.empty()
    assert failures.empty()
