"""From rows to jobs in the store: each row is met in the journal, its images are read, its request
is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

from medgemma_client.backfill.item import Item, RowState
from medgemma_client.backfill.journal import Journal
from medgemma_client.backfill.patience import Room, StoppedError, patiently
from medgemma_client.backfill.publishing import Ready, Shards
from medgemma_client.backfill.reading import Read, Readers
from medgemma_client.backfill.rows import BadRow, Row
from medgemma_client.backfill.uploading import Uploader
from medgemma_client.backfill.watched import Watched
from medgemma_tasks.errors import (
    ArtifactDamaged,
    DuplicateItem,
    InputError,
    RequestError,
)

UPLOADERS = 8
"""Rows that are written beside each other. Signing is what takes long, and one core does it."""
UPLOAD_BYTES = 2**28
"""Of images that are being written; those of one row may have more, and are then alone."""

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
        done: Callable[[Item], None],
        failed: Callable[[Exception], None],
        stop: Event,
    ) -> None:
        """``in_flight``: room for jobs that have not ended. ``done``: told of rows that ended
        without a job, or before. ``failed``: told of what ends the run."""
        self._journal, self._uploader = journal, uploader
        self._shards, self._watched = shards, watched
        self._in_flight, self._uploads = in_flight, Room(2 * UPLOADERS, UPLOAD_BYTES)
        self._retry_failed = retry_failed
        self._done, self._failed, self._stop = done, failed, stop
        self._again: dict[str, str | None] = {}
        """Rows that run again, and by which code they failed."""
        self.met = 0
        """Rows, so far."""

    def run(self, rows: Iterable[Row | BadRow], readers: Readers) -> None:
        """Feed all rows. Raises StoppedError, and what ends the run."""
        with ThreadPoolExecutor(UPLOADERS, "upload") as pool:
            for read in readers.read(self._new(rows)):
                if self._stop.is_set():
                    raise StoppedError
                if isinstance(read, BadRow):
                    self._refuse(read)
                    continue
                size = sum(map(len, read.pngs))
                self._in_flight.take()
                self._uploads.take(size)
                pool.submit(self._upload, read, size)

    def open(self) -> None:
        """Wait for nothing any more."""
        self._uploads.open()

    def _new(self, rows: Iterable[Row | BadRow]) -> Iterator[Row]:
        """Those rows that are to be read; with all others it is done what is to be done."""
        for row in rows:
            if self._stop.is_set():
                raise StoppedError
            self.met += 1
            if isinstance(row, BadRow):
                self._done(self._journal.refuse_line(row))
                continue
            try:
                met = self._journal.meet(row)
            except DuplicateItem as error:
                bad = BadRow.of(row.number, row.item, error)
                self._done(self._journal.refuse_line(bad))
                continue
            if met.item is not None:
                if met.state is RowState.SUCCEEDED or not self._retry_failed:
                    self._done(met.item)
                    continue
                self._again[row.item] = met.code
            elif met.job_id is not None and self._goes_on(row, met.job_id):
                continue
            yield row

    def _goes_on(self, row: Row, job_id: str) -> bool:
        """Whether the job of a run that was broken off is waited for; it may need a message."""
        under_way = patiently(lambda: self._watched.live.under_way(job_id), self._stop)
        ledger = self._watched.ledger
        ended = not under_way and patiently(lambda: ledger.finished(job_id), self._stop)
        if not (under_way or ended):
            if not patiently(lambda: ledger.has_request(job_id), self._stop):
                return False  # it was purged
            self._in_flight.take()
            self._shards.add(Ready(row.item, job_id, row.priority == "batch"))
            return True
        self._in_flight.take()
        self._watched.add([(row.item, job_id)], at_once=True)
        return True

    def _upload(self, read: Read, size: int) -> None:
        row, ready = read.row, None
        try:
            request = self._uploader.request_of(read)
            again = row.item in self._again
            damaged = self._again.pop(row.item, None) == ArtifactDamaged.code
            self._uploader.upload(read, request, anew=damaged)
            ready = Ready(row.item, request.job_id, request.batch)
            if again and self._watched.put_back(ready, request):
                return
            self._shards.add(ready)
        except ROW_ERRORS as error:
            self._in_flight.give()
            self._refuse(BadRow.of(row.number, row.item, error))
        except StoppedError:
            pass
        except Exception as error:  # noqa: BLE001 - it is raised where the items are read
            self._failed(error)
        finally:
            self._uploads.give(size)

    def _refuse(self, bad: BadRow) -> None:
        assert bad.item is not None, "a row that was read has an item"  # noqa: S101
        came_to = {"state": RowState.REFUSED, "code": bad.code, "message": bad.message}
        self._done(self._journal.ended(bad.item, **came_to))
