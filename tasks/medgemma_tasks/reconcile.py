"""Nothing lost: a job that has neither a terminal mark nor a message is put on the queue again.

The store is the ledger, so that what Redis or its transport lost can be told from it. A job that is
put back wrongly (its worker said nothing for long, its client was slow) may run twice; it commits
once, since the first terminal mark wins.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from medgemma_tasks import layout
from medgemma_tasks.entry import Entry
from medgemma_tasks.errors import InvalidRequest, StoreRefused
from medgemma_tasks.in_hand import settled_after
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.putting_back import Publish, Publisher
from medgemma_tasks.settings import Settings
from medgemma_tasks.store import Store
from medgemma_tasks.sweep import Sweeper, Sweepings
from medgemma_tasks.walking import jobs_of, tenants_of, these_jobs_of

log = logging.getLogger(__name__)

LONGEST_GRACE = 30.0
"""Seconds at most for which a request may lie in the store without its message: a client writes
them in this order. Half the visibility timeout where that is less, as tests have it."""

HEARTBEAT = 1000
"""Jobs after each of which ``alive`` is called."""


@dataclass
class Swept:
    """What a sweep found, in jobs."""

    put_back: list[str] = field(default_factory=list)
    """Ids of those that were lost, and now are queued again."""
    finished: int = 0
    """Have their terminal mark."""
    known: int = 0
    """Queued, or in a worker's hands."""
    young: int = 0
    """Submitted just now: their message may be on its way."""
    lately: int = 0
    """Put back within the last visibility timeout, and not seen since."""
    unreadable: int = 0
    """Their request cannot be read by this version: they are left to a newer one."""
    tidied: int = 0
    """Artifacts of finished jobs that no mark names: deleted, where a listing showed them."""


def grace(settings: Settings) -> float:
    """Seconds for which a request without a message is left alone."""
    return min(LONGEST_GRACE, settings.visibility_timeout / 2)


def settling(settings: Settings) -> float:
    """Seconds between the two looks at Redis: every worker tells what it holds within them."""
    return settled_after(settings.visibility_timeout)


class Reconciler:
    """Sweeps over the jobs in the store. Calls raise StoreUnreachable, StoreRefused and
    BrokerUnreachable; what was put back until then stays so.

    ``settle`` is in seconds; ``publish`` is the queue's unless a test gives another.
    """

    def __init__(
        self,
        store: Store,
        live: LiveState,
        *,
        settle: float | None = None,
        publish: Publish | None = None,
    ) -> None:
        self._store = store
        self._live = live
        self._settings = live.settings
        self._sweeper = Sweeper(store, live)
        self._settle = settling(live.settings) if settle is None else settle
        self._publish = Publisher(live.settings) if publish is None else publish

    def sweep(
        self,
        tenants: Sequence[str] | None = None,
        *,
        jobs: Collection[str] | None = None,
        alive: Callable[[], object] = lambda: None,
    ) -> Swept:
        """Put back what was lost of these tenants (all that have something in the store), or of
        these jobs of theirs alone. Takes ``settle`` seconds, then as long as listing takes.

        It holds the ids that Redis knows of, and one page of the store. ``alive`` is called on the
        way, to say that this goes on.
        """
        begun = datetime.now(UTC)
        # Twice, and either will do: just after Redis lost its memory no worker has yet said what
        # it holds, and a message that is being taken or given back can be missed once.
        known = self._live.known()
        time.sleep(self._settle)
        known |= self._live.known()
        swept = Swept()
        oldest_young = begun - timedelta(seconds=grace(self._settings))
        for tenant in tenants_of(self._store) if tenants is None else tenants:
            ledger = Ledger(self._store, self._live.of_tenant(tenant))
            found = (
                jobs_of(self._store, tenant)
                if jobs is None
                else these_jobs_of(self._store, tenant, jobs)
            )
            for number, (job_id, entries) in enumerate(found):
                if number % HEARTBEAT == 0:
                    alive()
                self._look_after(ledger, job_id, entries, known, oldest_young, swept)
        return swept

    def _look_after(
        self,
        ledger: Ledger,
        job_id: str,
        entries: Iterable[Entry],
        known: set[str],
        oldest_young: datetime,
        swept: Swept,
    ) -> None:
        submitted_at: datetime | None = None
        finished = False
        artifacts: list[Entry] = []
        for entry in entries:
            if layout.is_request(entry.key):
                submitted_at = entry.written_at
            finished = finished or layout.is_result(entry.key)
            if layout.artifact_path(entry.key) is not None:
                artifacts.append(entry)
        if submitted_at is None:
            return
        if finished:
            swept.finished += 1
            self._tidy(ledger, job_id, artifacts, swept)
        elif job_id in known:
            swept.known += 1
        elif submitted_at > oldest_young:
            swept.young += 1
        else:
            self._put_back(ledger, job_id, swept)

    def _tidy(self, ledger: Ledger, job_id: str, artifacts: list[Entry], swept: Swept) -> None:
        """Delete what an attempt left that did not win: for nothing, since it is listed anyway."""
        if len({layout.attempt_of(entry.key) for entry in artifacts}) < 2:
            return
        found = Sweepings()
        try:
            self._sweeper.tidy(ledger, job_id, artifacts, found)
        except StoreRefused as error:  # no reason to put no job back
            log.warning("job %s: what a lost attempt left stays (%s)", job_id, error.code)
        swept.tidied += found.artifacts

    def _put_back(self, ledger: Ledger, job_id: str, swept: Swept) -> None:
        try:
            if ledger.finished(job_id):  # since it was listed
                swept.finished += 1
                return
            request = ledger.request(job_id)
        except InvalidRequest as error:
            log.warning("a request in the store was not put back (%s)", error.code)
            swept.unreadable += 1
            return
        if request is None:
            return
        live = self._live.of_tenant(ledger.tenant)
        # Remembered for one visibility timeout: no two who sweep at a time put it back both.
        if not live.claim(job_id, self._settings.visibility_timeout):
            swept.lately += 1
            return
        try:
            self._publish(request.model, ledger.tenant, job_id, request.batch)
        except Exception:
            live.unclaim(job_id)
            raise
        live.mark_queued([job_id])
        log.info("job %s: was lost, and is put on the queue again", job_id)
        swept.put_back.append(job_id)
