"""Each row comes to one end, though many threads write rows beside each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from medgemma_client.backfill.feeding import Feeder
from medgemma_client.backfill.item import Item
from medgemma_client.backfill.journal import Journal
from medgemma_client.backfill.patience import Room
from medgemma_client.backfill.publishing import Ready
from medgemma_client.backfill.reading import Read
from medgemma_client.backfill.rows import BadRow, Row
from medgemma_tasks.errors import EmptyPrompt, FileUnwritable

WAIT = 20.0
ENDED = {"first", "ended"}

T = TypeVar("T")


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


def taken(queue: SimpleQueue[T]) -> list[T]:
    return [queue.get() for _ in range(queue.qsize())]


class FullDisk(Around):
    """The journal cannot be written any more once the request of a row is to be made; a closed one
    says what one on a full disk does."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    def request_of(self, read: Read) -> Any:
        self._journal.close()
        if read.row.item == "bad":
            raise EmptyPrompt("There is no question.")
        return super().request_of(read)

    def submit(self, rows: list[Ready], *, at_once: bool) -> None:
        self._entered[rows[0].item].set()
        self._journal.submitted([(ready.item, ready.job_id) for ready in rows])


class Told:
    """What a feeder said."""

    def __init__(self) -> None:
        self.done: SimpleQueue[Item] = SimpleQueue()
        self.failures: SimpleQueue[Exception] = SimpleQueue()


def feed(journal: Journal, around: Any, *items: str) -> Told:
    told = Told()
    feeder = Feeder(
        *(journal, around, around, around, Room(100), False, 1),
        *(told.done.put, told.failures.put, Event()),
    )
    rows = [
        Row(number=number, item=item, images=(), prompt="What?")
        for number, item in enumerate(items, 1)
    ]
    feeder.run(rows, around)
    return told


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.sqlite", "run-1", "here")


def test_a_row_whose_job_ended_is_not_published_as_well_though_another_threads_row_has_not(
    journal: Journal,
) -> None:
    around = Around()
    told = feed(journal, around, "first", "ended", "new")
    assert told.failures.empty()
    assert taken(around.watched) == ["first", "ended"]
    assert taken(around.uploaded) == ["new"]
    assert taken(around.to_be_published) == ["new"]


@pytest.mark.parametrize("item", ["bad", "first"])
def test_a_disk_that_is_full_ends_the_run_and_costs_no_row(journal: Journal, item: str) -> None:
    """Whether it is a refusal or a job that cannot be written down: nobody waits for it in vain."""
    told = feed(journal, FullDisk(journal), item)
    assert [type(failure) for failure in taken(told.failures)] == [FileUnwritable]
    assert told.done.empty()
