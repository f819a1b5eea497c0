"""A run: from the rows of a manifest to items that ended, over as many processes as it takes.

One thread meets rows and hands them to processes that read their images; a few write requests; one
publishes shards; one finds marks. Whoever iterates is told of the ends. Killed at any moment, the
run goes on from its journal when it is started again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from queue import Full, Queue
from threading import Event, Thread
from typing import Any

from medgemma_client.backfill.choices import Choices
from medgemma_client.backfill.feeding import TOGETHER, Feeder
from medgemma_client.backfill.files import Folder, write_results, write_summary
from medgemma_client.backfill.item import Item, RowState
from medgemma_client.backfill.journal import Journal
from medgemma_client.backfill.leaving import Leavings
from medgemma_client.backfill.manifest import read_rows
from medgemma_client.backfill.naming import Source, name_run
from medgemma_client.backfill.patience import Room, StoppedError, patiently
from medgemma_client.backfill.plan import Estimate, Plan, plan
from medgemma_client.backfill.publishing import Ready, Shards, fleet
from medgemma_client.backfill.reading import Readers
from medgemma_client.backfill.rows import BadRow, Defaults
from medgemma_client.backfill.uploading import Uploader
from medgemma_client.backfill.watched import Watched
from medgemma_client.request import served_model
from medgemma_client.result import Result
from medgemma_tasks.errors import InternalError, JobNotFinished, ServiceError, StoreUnreachable
from medgemma_tasks.layout import job_prefix, run_prefix
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import RunRecord

EVENTS = 10_000
"""Ends that wait for whoever iterates; then nothing goes on."""


class Backfill:
    """Iterate over it once: it gives each item as it ends, those that had ended before included.

    Raises, when it is made, ModelNotServed, FileUnreadable and InvalidRequest; while it is iterated
    ManifestUnusable, FileUnwritable, RunUnderWay, InternalError where rows were forgotten, and what
    is wrong with store or broker for long.
    However the iteration ends, the run's files are written first.
    """

    def __init__(
        self,
        ledger: Ledger,
        live: LiveState,
        source: Source,
        defaults: Defaults | None = None,
        choices: Choices | None = None,
    ) -> None:
        self._ledger, self._live = ledger, live
        self._source, self._defaults = source, defaults or Defaults()
        self._choices = choices or Choices()
        self._served = served_model(ledger, self._choices.model or live.settings.model)
        named = name_run(source, self._defaults, self._served)
        self._base = named.base
        self.run = self._choices.run or named.run
        self._place = named.place
        run_prefix(ledger.tenant, self.run)  # raises where it is no name of a run
        self.total = named.rows
        """About how many rows there are, until all were met; None where nobody knows."""
        if self.total is not None and self._choices.limit is not None:
            self.total = min(self.total, self._choices.limit)
        self.folder = self._choices.folder(self.run)
        self.summary: dict[str, Any] = {}
        """What it came to, once the iteration has ended."""
        self._events: Queue[Item | Exception | int] = Queue(EVENTS)
        self._stop = Event()
        self._broken_off = False

    def __iter__(self) -> Generator[Item, None, None]:
        started_at = datetime.now(UTC)
        with (
            Folder(self.folder, self.run, resume=self._choices.resume) as folder,
            closing(Journal(folder.journal, self.run, self._place)) as journal,
        ):
            leavings = Leavings(self._ledger, journal, self._record(started_at))
            patiently(leavings.begin, Event())
            try:
                yield from self._work(journal, leavings)
                _check_ended(journal)
            except BaseException as error:
                self._write(journal, started_at, complete=False)
                with suppress(ServiceError):  # what broke it off is to be told
                    leavings.end(self.summary)
                if isinstance(error, StoppedError):
                    return
                raise
            self._write(journal, started_at, complete=True)
            patiently(lambda: leavings.end(self.summary), Event())

    def plan(self, refuse: Callable[[BadRow], None]) -> Plan:
        """What it would do, told without doing it; ``refuse``: see ``plan.plan``."""
        there = fleet(self._live)
        found = plan(
            islice(read_rows(self._source, self._defaults), self._choices.limit),
            settings=self._live.settings,
            base=self._base,
            served=self._served,
            fleet=there or (),
            refuse=refuse,
            buckets=self._choices.buckets,
            processes=self._choices.processes,
        )
        if there is not None:
            return found
        unknown = Estimate(None, "No estimate can be made: the workers cannot be asked.")
        return replace(found, estimate=unknown)

    def stop(self) -> None:
        """End the iteration early, from another thread: as if nothing more were there."""
        self._broken_off = True
        with suppress(Full):  # then nobody waits for an event
            self._events.put_nowait(StoppedError())

    def _work(self, journal: Journal, leavings: Leavings) -> Iterator[Item]:
        in_flight = Room(self._choices.in_flight)

        def ended(item: Item) -> None:
            in_flight.give()
            self._put(item)

        def before(rows: Sequence[Ready]) -> Sequence[str]:
            jobs = watched.submit(rows) if rows else ()
            with suppress(StoreUnreachable):  # it is said again
                leavings.say()
            return jobs

        def feed() -> None:
            feeder.run(islice(rows, self._choices.limit), readers)
            shards.close()
            self._put(feeder.met)

        rows = read_rows(self._source, self._defaults)
        stop, failed, model = self._stop, self._put, self._served.name
        watched = Watched(self._ledger, self._live, journal, ended, failed, stop)
        shards = Shards(self._live, model, self._choices.shard, before, stop)
        uploader = Uploader(self._ledger, self._served, stop)
        feeder = Feeder(
            journal,
            uploader,
            shards,
            watched,
            in_flight,
            self._choices.retry_failed,
            TOGETHER if isinstance(self._source, str | os.PathLike) else 1,
            self._put,
            failed,
            stop,
        )
        threads = [
            Thread(target=self._guarded, args=(task,), daemon=True) for task in (feed, shards.run)
        ]

        def end() -> None:
            stop.set()
            in_flight.open()
            feeder.open()

        with ExitStack() as stack:  # left from its end
            stack.enter_context(watched)
            for thread in threads:
                stack.callback(_join, thread)
            readers = stack.enter_context(self._readers())
            stack.callback(end)
            for thread in threads:
                thread.start()
            yield from self._items()

    def _items(self) -> Iterator[Item]:
        told, met = 0, None
        while met is None or told < met:
            event = self._events.get()
            if self._broken_off:
                raise StoppedError
            if isinstance(event, Exception):
                raise event
            if isinstance(event, int):
                met = self.total = event
            else:
                told += 1
                yield replace(event, fetch=self._result)

    def _put(self, event: Item | Exception | int) -> None:
        while not self._stop.is_set():
            with suppress(Full):
                self._events.put(event, timeout=1)
                return

    def _guarded(self, task: Callable[[], None]) -> None:
        try:
            task()
        except StoppedError:
            pass
        except Exception as error:  # noqa: BLE001 - it is raised where the items are read
            self._put(error)

    def _readers(self) -> Readers:
        choices = self._choices
        return Readers(
            self._live.settings,
            base=self._base,
            buckets=choices.buckets,
            processes=choices.processes,
            row_seconds=choices.row_seconds,
        )

    def _record(self, started_at: datetime) -> RunRecord:
        return RunRecord(
            run=self.run,
            model=self._served.name,
            started_at=started_at,
            worked_at=started_at,
            expire_after_seconds=self._choices.expire_after,
            max_bytes=self._choices.max_bytes,
        )

    def _write(self, journal: Journal, started_at: datetime, *, complete: bool) -> None:
        # What an earlier manifest of the run had is left out once this one was read to its end.
        whole = complete and self._choices.limit is None
        counts, ended_at = journal.counts(whole=whole), datetime.now(UTC)
        self.summary = {
            "run": self.run,
            "model": self._served.name,
            "revision": self._served.revision,
            "method": self._served.method,
            "started_at": started_at.isoformat(),
            "ended_at": ended_at.isoformat(),
            "seconds": round((ended_at - started_at).total_seconds(), 3),
            "complete": complete,
            "rows": sum(counts.values()),
            **counts,
            "codes": journal.codes(whole=whole),
        }
        prefix = partial(job_prefix, self._ledger.tenant)
        write_results(self.folder, lambda: journal.items(whole=whole), prefix)
        write_summary(self.folder, self.summary)

    def _result(self, job_id: str) -> Result:
        record = self._ledger.record(job_id)
        if record is None:
            raise JobNotFinished(f"Job {job_id} has no result any more.", job_id=job_id)
        return Result(record, self._ledger)


def _join(thread: Thread) -> None:
    """Also one that was never started, since what kept it from that is to be told."""
    if thread.is_alive():
        thread.join()


def _check_ended(journal: Journal) -> None:
    """Before it is said that all is done: each row that was met has ended."""
    counts = journal.counts(whole=True)
    if forgotten := sum(counts[state] for state in RowState if not state.ended):
        raise InternalError(
            f"Of the rows {forgotten} have not ended, and nobody waits for them any more: a defect "
            "of ours. Start the run again; it goes on where it stopped."
        )
