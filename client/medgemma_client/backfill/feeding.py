"""From rows to jobs in the store: each row is met in the journal, its images are read, its request
is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Event, Thread

from medgemma_client.backfill.item import Item, RowState
from medgemma_client.backfill.journal import Journal, Met
from medgemma_client.backfill.patience import Room, StoppedError, patiently
from medgemma_client.backfill.publishing import Ready, Shards
from medgemma_client.backfill.reading import Read, Readers
from medgemma_client.backfill.rows import BadRow, Row
from medgemma_client.backfill.uploading import Uploader
from medgemma_client.backfill.watched import Watched
from medgemma_tasks.errors import (
    ArtifactDamaged,
    DuplicateItem,
    FileUnwritable,
    InputError,
    RequestError,
)
from medgemma_tasks.walking import pages

UPLOADERS = 8
"""Rows that are written beside each other. Signing is what takes long, and one core does it."""
AT_ONCE = 8
"""Rows that one of them writes one after the other, if so many have come."""
TOGETHER = 64
"""Rows of a file that are looked up in the journal together."""
UPLOAD_BYTES = 2**28
"""Of images that are being written; those of one row may have more, and are then alone."""

SAMPLE = 32
"""One row in so many is asked whether its job ended before; where it did, the next is asked too. So
a manifest to which rows were added is gone through quickly, and a new one at little cost."""

ROW_ERRORS = (RequestError, InputError)
"""What is wrong with one row, and costs no other."""


class Feeder:
    """For one thread. Each row that it meets comes to exactly one item, now or later."""

    def __init__(
        self,
        journal: Journal,
        uploader: Uploader,
        shards: Shards,
        watched: Watched,
        in_flight: Room,
        retry_failed: bool,
        together: int,
        done: Callable[[Item], None],
        failed: Callable[[Exception], None],
        stop: Event,
    ) -> None:
        """``in_flight``: room for jobs that have not ended. ``together``: rows that come at once,
        so that the first of them need not be waited with. ``done``: told of rows that ended
        without a job, or before. ``failed``: told of what ends the run."""
        self._journal, self._uploader = journal, uploader
        self._shards, self._watched = shards, watched
        self._in_flight, self._uploads = in_flight, Room(2 * UPLOADERS * AT_ONCE, UPLOAD_BYTES)
        self._reads: SimpleQueue[Read | None] = SimpleQueue()
        self._retry_failed, self._together = retry_failed, together
        self._done, self._failed, self._stop = done, failed, stop
        self._again: dict[str, str | None] = {}
        """Rows that run again, and by which code they failed."""
        self._asked, self._one_ended = 0, False
        self.met = 0
        """Rows, so far."""

    def run(self, rows: Iterable[Row | BadRow], readers: Readers) -> None:
        """Feed all rows. Raises StoppedError, and what ends the run."""
        threads = [Thread(target=self._serve, daemon=True) for _ in range(UPLOADERS)]
        for thread in threads:
            thread.start()
        try:
            for read in readers.read(self._new(rows)):
                if self._stop.is_set():
                    raise StoppedError
                if isinstance(read, BadRow):
                    self._refuse(read)
                    continue
                self._in_flight.take()
                self._uploads.take(_size(read))
                self._reads.put(read)
        finally:
            for _ in threads:
                self._reads.put(None)
            for thread in threads:
                thread.join()

    def _serve(self) -> None:
        """Write what was read; what has come meanwhile together, so that threads change seldom."""
        while (read := self._reads.get()) is not None:
            ready, over, count, size = [], False, 0, 0
            while read is not None:
                count, size = count + 1, size + _size(read)
                if not self._stop.is_set() and (one := self._upload(read)) is not None:
                    ready.append(one)
                read = None
                with suppress(Empty):
                    read = self._reads.get_nowait() if count < AT_ONCE else None
                    over = read is None and count < AT_ONCE
            self._shards.add(ready)
            self._uploads.give(size, count)
            if over:  # what was taken last was the sign to end
                return

    def open(self) -> None:
        """Wait for nothing any more."""
        self._uploads.open()

    def _new(self, rows: Iterable[Row | BadRow]) -> Iterator[Row]:
        """Those rows that are to be read; with all others it is done what is to be done."""
        for page in pages(rows, self._together):
            self.met += len(page)
            good = [row for row in page if isinstance(row, Row)]
            mets = iter(self._journal.meet(good))
            for row in page:
                if self._stop.is_set():
                    raise StoppedError
                if isinstance(row, BadRow):
                    self._done(self._journal.refuse_line(row))
                elif self._is_to_be_read(row, next(mets)):
                    yield row

    def _is_to_be_read(self, row: Row, met: Met) -> bool:
        if met.state is None:
            why = DuplicateItem(f"Row {met.first} has the same item; each row needs its own.")
            self._done(self._journal.refuse_line(BadRow.of(row.number, row.item, why)))
            return False
        if met.item is not None:
            if met.state is RowState.SUCCEEDED or not self._retry_failed:
                self._done(met.item)
                return False
            self._again[row.item] = met.code
            return True
        return met.job_id is None or not self._goes_on(row, met.job_id)

    def _goes_on(self, row: Row, job_id: str) -> bool:
        """Whether the job of a run that was broken off is waited for; it may need a message."""
        under_way = patiently(lambda: self._watched.live.under_way(job_id), self._stop)
        ledger = self._watched.ledger
        ended = not under_way and patiently(lambda: ledger.finished(job_id), self._stop)
        if not (under_way or ended):
            if not patiently(lambda: ledger.has_request(job_id), self._stop):
                return False  # it was purged
            self._in_flight.take()
            self._shards.add([Ready(row.item, job_id, row.priority == "batch")])
            return True
        self._in_flight.take()
        self._watched.add([(row.item, job_id)], at_once=True)
        return True

    def _upload(self, read: Read) -> Ready | None:
        """The row, if its job is still to be published. What ends the run is told: no thread may
        end over it, since its row would be waited for in vain."""
        try:
            return self._write(read)
        except StoppedError:
            pass
        except Exception as error:  # noqa: BLE001 - it is raised where the items are read
            self._failed(error)
        return None

    def _write(self, read: Read) -> Ready | None:
        row = read.row
        try:
            request = self._uploader.request_of(read)
            ready = Ready(row.item, request.job_id, request.batch)
            again = row.item in self._again
            if not again and self._ended_before(ready):
                return None
            damaged = self._again.pop(row.item, None) == ArtifactDamaged.code
            self._uploader.upload(read, request, anew=damaged)
            return None if again and self._watched.put_back(ready, request) else ready
        except FileUnwritable:
            raise  # the journal: no row is to blame
        except ROW_ERRORS as error:
            self._in_flight.give()
            self._refuse(BadRow.of(row.number, row.item, error))
            return None

    def _ended_before(self, ready: Ready) -> bool:
        """Whether there is nothing to do but to look at its mark."""
        self._asked += 1  # threads may miss one another's: it is a sample
        if not self._one_ended and self._asked % SAMPLE != 1:
            return False
        ended = patiently(lambda: self._watched.ledger.finished(ready.job_id), self._stop)
        self._one_ended = ended  # a hint for the next row; other threads set it at any time
        if ended:
            self._watched.submit([ready], at_once=True)
        return ended

    def _refuse(self, bad: BadRow) -> None:
        assert bad.item is not None, "a row that was read has an item"  # noqa: S101
        came_to = {"state": RowState.REFUSED, "code": bad.code, "message": bad.message}
        self._done(self._journal.ended(bad.item, **came_to))


def _size(read: Read) -> int:
    return sum(map(len, read.pngs))
