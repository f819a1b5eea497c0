"""Nothing left over: what no mark names any more is deleted.

An attempt that lost deletes its own artifacts. One that was killed between its artifacts and its
mark, or while it deleted them, leaves them lying. Keys of a job in Redis outlive its mark where a
client cancelled it (its worker is still to hear of that), where its worker was killed, or Redis was
away, right after the commit, where one that lost reported on, and where the job was done before its
client had noted that it was queued. All of them lapse, and none of them says anything of a job that
has its mark. History, inputs and requests are never touched: a client that
finds an input does not upload it again, so deleting one races with whoever just submits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from medgemma_tasks import layout
from medgemma_tasks.entry import Entry
from medgemma_tasks.errors import InvalidRequest
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import ExplanationRecord
from medgemma_tasks.settings import Settings
from medgemma_tasks.store import DELETE_BATCH, Store
from medgemma_tasks.walking import jobs_of, pages, tenants_of

PROBE_AGE = 3600.0
"""Seconds after which a probe's key is left over: a probe is over within moments."""

REMEMBERED_PAGE = 1000
"""Keys of Redis that are looked at together."""


@dataclass
class Sweepings:
    """What a sweep deleted, or, on a dry run, would have."""

    artifacts: int = 0
    probes: int = 0
    size: int = 0
    """Bytes of both."""
    keys: int = 0
    """Of Redis."""
    young: int = 0
    """Artifacts of finished jobs that nothing names, left until they are older."""
    unreadable: int = 0
    """Jobs whose mark cannot be read by this version: they are left to a newer one."""


def artifact_age(settings: Settings) -> float:
    """Seconds after which an artifact without a mark that names it is nobody's.

    Who wrote it commits, or deletes it, at once. Longer than the hard limit it cannot have run;
    a visibility timeout more is room for the pauses between the two.
    """
    return float(settings.hard_time_limit + settings.visibility_timeout)


class Sweeper:
    """Deletes what nothing names. Calls raise StoreUnreachable, StoreRefused, BrokerUnreachable.

    ``age`` and ``probe_age`` are in seconds, by the store's clock; 0 spares nothing. A job without
    a mark keeps everything: a stopped worker may go on, and commit what it stored.
    """

    def __init__(
        self,
        store: Store,
        live: LiveState,
        *,
        age: float | None = None,
        probe_age: float = PROBE_AGE,
        dry_run: bool = False,
    ) -> None:
        self._store = store
        self._live = live
        self._age = artifact_age(live.settings) if age is None else age
        self._probe_age = probe_age
        self._dry_run = dry_run

    def sweep(self, tenants: Sequence[str] | None = None) -> Sweepings:
        """Go over these tenants, or all that have something in the store, job by job.

        Every finished job that has artifacts is asked for its mark.
        """
        found = Sweepings()
        for tenant in tenants_of(self._store) if tenants is None else tenants:
            ledger = Ledger(self._store, self._live.of_tenant(tenant))
            for job_id, entries in jobs_of(self._store, tenant):
                self.tidy(ledger, job_id, entries, found)
            self._probes(tenant, found)
        self._keys(tenants, found)
        return found

    def tidy(self, ledger: Ledger, job_id: str, entries: Iterable[Entry], found: Sweepings) -> None:
        """Delete those of a job's objects that are artifacts, and that its mark does not name."""
        artifacts = [entry for entry in entries if layout.artifact_path(entry.key) is not None]
        if not artifacts:
            return
        try:
            left = unnamed(ledger.record(job_id), artifacts)
            old = [entry for entry in left if self._old(entry, self._age)]
            found.young += len(left) - len(old)
            if old and not self._dry_run:
                # The mark stays while we hold it: once it is archived, a worker that was stopped
                # may commit what it stored.
                with ledger.holding(job_id):
                    old = unnamed(ledger.record(job_id), old)
                    self._store.delete(*(entry.key for entry in old))
        except InvalidRequest:
            found.unreadable += 1
            return
        found.artifacts += len(old)
        found.size += sum(entry.size for entry in old)

    def _probes(self, tenant: str, found: Sweepings) -> None:
        probes = self._store.listing(layout.probes_prefix(tenant))
        old = (entry for entry in probes if self._old(entry, self._probe_age))
        for page in pages(old, DELETE_BATCH):
            if not self._dry_run:
                self._store.delete(*(entry.key for entry in page))
            found.probes += len(page)
            found.size += sum(entry.size for entry in page)

    def _keys(self, tenants: Sequence[str] | None, found: Sweepings) -> None:
        known = self._live.known()
        for page in pages(self._live.remembered(), REMEMBERED_PAGE):
            jobs: dict[tuple[str, str], set[str]] = {}
            for tenant, job_id, key in page:
                # Whoever has it in hand still wants to hear that it is cancelled.
                if job_id not in known and (tenants is None or tenant in tenants):
                    jobs.setdefault((tenant, job_id), set()).add(key)
            for (tenant, job_id), keys in jobs.items():
                found.keys += self._forget(tenant, job_id, keys)

    def _forget(self, tenant: str, job_id: str, keys: set[str]) -> int:
        ledger = Ledger(self._store, self._live.of_tenant(tenant))
        try:
            if ledger.record(job_id) is None:
                return 0
            if self._dry_run:
                return len(keys)
            with ledger.holding(job_id):  # who puts it back counts its starts anew, in these keys
                return 0 if ledger.record(job_id) is None else self._live.drop(keys)
        except InvalidRequest:
            return 0

    @staticmethod
    def _old(entry: Entry, age: float) -> bool:
        return age == 0 or entry.age > age


def unnamed(mark: ExplanationRecord | None, artifacts: Iterable[Entry]) -> list[Entry]:
    """Those that a mark does not name; none, where there is no mark yet."""
    if mark is None:
        return []
    named = {artifact.key for artifact in mark.artifacts.values()}
    return [entry for entry in artifacts if layout.artifact_path(entry.key) not in named]
