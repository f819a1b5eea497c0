"""What runs left is kept as long, and as much of it, as they said: then it goes. And, where an age
is named for it, what was asked by hand.

A run is deleted last, so that a purge that breaks off is done again by the next one. Of a job its
request goes first and its mark next: a request without a mark would be run again, and a mark
without artifacts would be believed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby

from medgemma_tasks import layout
from medgemma_tasks.entry import Entry
from medgemma_tasks.errors import InvalidRequest, RunNotFound
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.models import RunRecord
from medgemma_tasks.walking import jobs_of, pages, these_jobs_of

YOUNG = 3600.0
"""Seconds for which a request or an input is nobody's to delete: its run may not have named it."""

SETTLE = 30.0
"""Seconds within which a client that found an input has written the request that names it."""

LATELY = 600.0
"""Seconds: what was submitted since a purge began to delete inputs is younger."""

READS_AT_ONCE = 8
PAGE = 256
"""Requests that are held at a time."""


@dataclass
class Purged:
    """What was deleted or, on a dry run, would have been."""

    runs: list[str] = field(default_factory=list)
    """That are gone as a whole."""
    jobs: int = 0
    inputs: int = 0
    size: int = 0
    """Bytes of all of it."""
    shared: int = 0
    """Jobs that are kept since a run that is kept names them too."""
    unfinished: int = 0
    """Jobs without a result, which are kept, and so is their run."""
    young: int = 0
    """Jobs that were submitted again within the last hour, and are kept."""
    unreadable: int = 0
    """Requests that this version cannot read. As long as there are any, no input goes."""


@dataclass
class _Job:
    """A job that may go, by what lies below its prefix."""

    entries: dict[str, Entry] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return sum(entry.size for entry in self.entries.values())

    @property
    def finished_at(self) -> datetime | None:
        found = [e.written_at for key, e in self.entries.items() if layout.is_result(key)]
        return found[0] if found else None

    @property
    def rested(self) -> float:
        """Seconds since it ended; of what a purge that broke off left, since the last was written.
        By the store's clock."""
        marks = [e.age for key, e in self.entries.items() if layout.is_result(key)]
        return min(marks or [entry.age for entry in self.entries.values()], default=0.0)

    @property
    def age(self) -> float:
        """Seconds since it was asked, last."""
        return min((e.age for key, e in self.entries.items() if layout.is_request(key)), default=0)


class Purger:
    """Deletes what the runs of one tenant left. Calls raise StoreUnreachable, StoreRefused,
    BrokerUnreachable, InvalidRequest."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        dry_run: bool = False,
        settle: float = SETTLE,
        young: float = YOUNG,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._ledger, self._store, self._tenant = ledger, ledger.store, ledger.tenant
        self._dry_run, self._settle, self._young, self._now = dry_run, settle, young, now

    def purge(self, run: str | None = None, older_than: float | None = None) -> Purged:
        """Look at all runs, or at one; ``older_than``: seconds since a run was last worked at that
        stand for what it said itself. Where no run is named they also count for jobs that no run
        names, since they ended. Raises RunNotFound."""
        records = {record.run: record for record in self._records()}
        if run is not None and run not in records:
            raise RunNotFound(
                f"There is no run {run} with a run.json for tenant {self._tenant}.", run_id=run
            )
        meant = [records[run]] if run is not None else [*records.values()]
        now, found = self._now(), Purged()
        gone = {record.run for record in meant if _expired(record, older_than, now)}
        kept_jobs = self._jobs_of(self._runs() - gone)
        doomed: dict[str, _Job] = {}
        stays: set[str] = set()
        for name in sorted(gone):
            jobs = self._looked_at(self._ledger.run_jobs(name), kept_jobs, found)
            doomed |= jobs.going
            if jobs.unfinished or jobs.young:
                stays.add(name)
        if run is None and older_than is not None:
            old = self._ended_before(older_than) - self._jobs_of(gone)
            going = self._looked_at(old, kept_jobs, found).going
            # Of a server that lists in no order only now all that lies below a job is known.
            doomed |= {name: job for name, job in going.items() if job.rested >= older_than}
        for record in meant:
            if record.run not in gone and record.max_bytes is not None:
                others = self._jobs_of(self._runs() - gone - {record.run})
                doomed |= self._over(record, others, found)
        self._inputs(doomed, found)
        kept = {
            job_id for job_id, job in doomed.items() if not self._delete_job(job_id, job, found)
        }
        stays |= {
            name for name in gone if kept and not kept.isdisjoint(self._ledger.run_jobs(name))
        }
        for name in sorted(gone - stays):
            if not self._dry_run:
                self._store.delete(*self._store.keys(layout.run_prefix(self._tenant, name)))
            found.runs.append(name)
        return found

    # --- which jobs go -------------------------------------------------------------------------

    @dataclass
    class _Looked:
        going: dict[str, _Job] = field(default_factory=dict)
        unfinished: int = 0
        young: int = 0

    def _looked_at(self, jobs: Iterable[str], kept: Collection[str], found: Purged) -> _Looked:
        looked, wanted = self._Looked(), set(jobs)
        found.shared += len(wanted & set(kept))
        for job_id, job in self._below(wanted - set(kept)).items():
            if not any(map(layout.is_request, job.entries)):
                looked.going[job_id] = job  # of a purge that broke off
            elif job.finished_at is None:
                looked.unfinished += 1
            elif job.age < self._young:
                looked.young += 1
            else:
                looked.going[job_id] = job
        found.unfinished += looked.unfinished
        found.young += looked.young
        return looked

    def _ended_before(self, age: float) -> set[str]:
        """Jobs that ended so many seconds ago, and those of which a purge that broke off has left
        neither request nor mark. Never one that is queued or runs: that has no mark."""
        found = set()
        for job_id, entries in jobs_of(self._store, self._tenant):
            job = _Job({entry.key: entry for entry in entries})
            open_ = job.finished_at is None and any(map(layout.is_request, job.entries))
            if layout.is_job_id(job_id) and not open_ and job.rested >= age:
                found.add(job_id)
        return found

    def _over(self, record: RunRecord, others: Collection[str], found: Purged) -> dict[str, _Job]:
        """The oldest jobs of a run, until the rest is within its limit."""
        wanted = set(self._ledger.run_jobs(record.run))
        jobs = self._below(wanted)
        over = sum(job.size for job in jobs.values()) - (record.max_bytes or 0)
        if over <= 0:
            return {}
        looked = self._looked_at(wanted, others, found)
        latest = datetime.max.replace(tzinfo=UTC)
        going: dict[str, _Job] = {}
        for job_id, job in sorted(
            looked.going.items(), key=lambda pair: (pair[1].finished_at or latest, pair[0])
        ):
            if over <= 0:
                break
            going[job_id] = job
            over -= job.size
        return going

    def _below(self, jobs: Collection[str]) -> dict[str, _Job]:
        found: dict[str, _Job] = {}
        for job_id, entries in these_jobs_of(self._store, self._tenant, jobs):
            if job_id in jobs:  # in no order, some come twice
                found.setdefault(job_id, _Job()).entries.update({e.key: e for e in entries})
        return found

    # --- what they refer to --------------------------------------------------------------------

    def _inputs(self, doomed: Collection[str], found: Purged) -> None:
        """Delete the inputs that only these jobs refer to."""
        names = set(self._named(iter(doomed), found))
        if names:
            names -= set(self._named(self._others(doomed), found))
        going = {
            name: entry
            for entry in self._store.listing(layout.inputs_prefix(self._tenant))
            if (name := layout.input_name(entry.key)) in names and entry.age >= self._young
        }
        if self._all_were_read(found) and going and not self._dry_run:
            # The notes first. Whoever found one before that has written its request soon after,
            # and whoever looks from here on uploads the image again.
            notes = {name: layout.input_key(self._tenant, str(name), "json") for name in going}
            texts = {name: self._store.get(key) for name, key in notes.items()}
            self._store.delete(*notes.values())
            time.sleep(self._settle)
            late = set(self._named(self._others(doomed, lately=True), found))
            for name in [*going] if not self._all_were_read(found) else late & going.keys():
                del going[name]
                if (text := texts[name]) is not None:
                    self._store.put(notes[name], text)
            self._store.delete(*(entry.key for entry in going.values()))
        if self._all_were_read(found):
            found.inputs += len(going)
            found.size += sum(entry.size for entry in going.values())

    @staticmethod
    def _all_were_read(found: Purged) -> bool:
        return found.unreadable == 0

    def _others(self, doomed: Collection[str], *, lately: bool = False) -> Iterator[str]:
        """All jobs but these; ``lately``: that were submitted since this has begun."""
        most = LATELY + self._settle if lately else float("inf")
        for job_id, entries in jobs_of(self._store, self._tenant):
            asked = any(layout.is_request(e.key) and e.age <= most for e in entries)
            if asked and job_id not in doomed and layout.is_job_id(job_id):
                yield job_id

    def _named(self, jobs: Iterator[str], found: Purged) -> Iterator[str | None]:
        """The inputs that the requests of jobs name."""

        def read(job_id: str) -> tuple[str, ...] | None:
            try:
                request = self._ledger.request(job_id)
            except InvalidRequest:
                return None
            return () if request is None else tuple(ref.name for ref in request.images)

        with ThreadPoolExecutor(READS_AT_ONCE, "requests") as pool:
            for page in pages(jobs, PAGE):
                for names in pool.map(read, page):
                    found.unreadable += names is None
                    yield from names or ()

    # --- deleting ------------------------------------------------------------------------------

    def _delete_job(self, job_id: str, job: _Job, found: Purged) -> bool:
        """False, and nothing is done, where it was asked again, was put back, or ended anew, since
        it was looked at."""
        if not self._dry_run:
            request = layout.request_key(self._tenant, job_id)
            mark = layout.result_key(self._tenant, job_id)
            with self._ledger.holding(job_id):  # who puts it back looks at its mark meanwhile
                below = list(self._store.listing(layout.job_prefix(self._tenant, job_id)))
                there = [e.key for e in below]
                anew = any(e.key == mark and e.written_at != job.finished_at for e in below)
                if anew or any(e.key == request and e.age < self._young for e in below):
                    found.young += 1
                    return False
                if request in there and mark not in there:
                    found.unfinished += 1
                    return False
                for key in (request, mark):
                    if key in there:
                        self._store.delete(key)
                self._store.delete(*(key for key in there if key not in (request, mark)))
        found.jobs += 1
        found.size += job.size
        return True

    # --- runs ----------------------------------------------------------------------------------

    def _runs(self) -> set[str]:
        prefix = layout.runs_prefix(self._tenant)
        keys = (entry.key.removeprefix(prefix) for entry in self._store.listing(prefix))
        return {name for name, _ in groupby(key.partition("/")[0] for key in keys)}

    def _records(self) -> Iterator[RunRecord]:
        for name in sorted(self._runs()):
            try:
                content = self._store.get(layout.run_key(self._tenant, name, "run.json"))
                if content is not None:
                    yield RunRecord.model_validate_json(content)
            except ValueError:
                continue  # of a newer version, or named by somebody else: it is kept
            except InvalidRequest:
                continue

    def _jobs_of(self, runs: Iterable[str]) -> set[str]:
        found: set[str] = set()
        for name in runs:
            try:
                found.update(self._ledger.run_jobs(name))
            except RunNotFound:
                continue  # it has named no job yet
        return found


def _expired(record: RunRecord, older_than: float | None, now: datetime) -> bool:
    if older_than is None:
        return record.expired(now)
    return (now - record.worked_at).total_seconds() >= older_than
