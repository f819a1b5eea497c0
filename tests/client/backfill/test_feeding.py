"""Each row comes to one end, though many threads write rows beside each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from types import SimpleNamespace
from typing import Any

from medgemma_client.backfill.feeding import Feeder
from medgemma_client.backfill.journal import Journal
from medgemma_client.backfill.patience import Room
from medgemma_client.backfill.publishing import Ready
from medgemma_client.backfill.reading import Read
from medgemma_client.backfill.rows import BadRow, Row

WAIT = 20.0
ENDED = {"first", "ended"}


class Around:
    """What a feeder has about it. A row's item is its job's id; while the row "ended" is found to
    have ended, another thread finds that "new" has not."""

    def __init__(self) -> None:
        self.watched: SimpleQueue[str] = SimpleQueue()
        self.uploaded: SimpleQueue[str] = SimpleQueue()
        self.to_be_published: SimpleQueue[str] = SimpleQueue()
        self.ledger = SimpleNamespace(finished=lambda job_id: job_id in ENDED)
        self._entered = {item: Event() for item in ENDED}
        self._new_is_written = Event()

    def read(self, rows: Iterable[Row | BadRow]) -> Iterator[Read | BadRow]:
        for row in rows:
            assert isinstance(row, Row)
            yield Read(row, (), ())
            if row.item in ENDED:
                assert self._entered[row.item].wait(WAIT)

    def request_of(self, read: Read) -> Any:
        return SimpleNamespace(job_id=read.row.item, batch=True)

    def upload(self, read: Read, request: Any, *, anew: bool) -> None:
        self.uploaded.put(read.row.item)
        if read.row.item == "new":
            self._new_is_written.set()

    def submit(self, rows: list[Ready], *, at_once: bool) -> None:
        for ready in rows:
            self.watched.put(ready.item)
            self._entered[ready.item].set()
            if ready.item == "ended":
                assert self._new_is_written.wait(WAIT)

    def add(self, rows: list[Ready]) -> None:
        for ready in rows:
            self.to_be_published.put(ready.item)


def taken(queue: SimpleQueue[str]) -> list[str]:
    return [queue.get() for _ in range(queue.qsize())]


def test_a_row_whose_job_ended_is_not_published_as_well_though_another_threads_row_has_not(
    tmp_path: Path,
) -> None:
    around: Any = Around()
    failures: SimpleQueue[Exception] = SimpleQueue()
    feeder = Feeder(
        Journal(tmp_path / "journal.sqlite", "run-1", "here"),
        around,
        around,
        around,
        Room(100),
        False,
        1,
        lambda item: None,
        failures.put,
        Event(),
    )
    rows = [
        Row(number=number, item=item, images=(), prompt="What?")
        for number, item in enumerate(("first", "ended", "new"), 1)
    ]
    feeder.run(rows, around)
    assert failures.empty()
    assert taken(around.watched) == ["first", "ended"]
    assert taken(around.uploaded) == ["new"]
    assert taken(around.to_be_published) == ["new"]
