"""The jobs that a run waits for, each with the rows that asked for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Event, Lock

from medgemma_client.backfill.collecting import Collector
from medgemma_client.backfill.item import Item, RowState, peak_of
from medgemma_client.backfill.journal import Journal
from medgemma_client.backfill.patience import patiently
from medgemma_client.backfill.publishing import Ready
from medgemma_tasks.errors import MedGemmaError
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import ExplanationRecord, ExplanationRequest, State
from medgemma_tasks.putting_back import Publisher, put_back


class Watched:
    """Context manager: as the collector that it holds."""

    def __init__(
        self,
        ledger: Ledger,
        live: LiveState,
        journal: Journal,
        done: Callable[[Item], None],
        failed: Callable[[Exception], None],
        stop: Event,
    ) -> None:
        self.ledger, self.live = ledger, live
        self._journal, self._done, self._stop = journal, done, stop
        self._publisher = Publisher(live.settings)
        self._rows: dict[str, list[tuple[str, ExplanationRecord | None]]] = {}
        """Items by the id of their job: the same question may be asked in several rows. With each
        the mark that it was put back for."""
        self._lock = Lock()
        self._collector = Collector(ledger, live, self._ended, failed)

    def __enter__(self) -> Watched:
        self._collector.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._collector.__exit__()

    def submit(self, rows: Sequence[Ready], *, at_once: bool = False) -> list[str]:
        """Write rows down, and watch their jobs: those that are still to be published."""
        pairs = [(row.item, row.job_id) for row in rows]
        self._journal.submitted(pairs)
        return self.add(pairs, at_once=at_once)

    def add(
        self,
        rows: Sequence[tuple[str, str]],
        *,
        at_once: bool = False,
        before: ExplanationRecord | None = None,
    ) -> list[str]:
        """Watch the jobs of rows (item and job id) that were written down; the new ones.
        ``before``: a mark that is not waited for."""
        with self._lock:
            for item, job_id in rows:
                self._rows.setdefault(job_id, []).append((item, before))
        return self._collector.watch([job_id for _, job_id in rows], at_once=at_once)

    def put_back(self, ready: Ready, request: ExplanationRequest) -> bool:
        """Run a job again that ended badly; False where it did not, and needs a message."""
        mark = patiently(lambda: self.ledger.record(ready.job_id), self._stop)
        if mark is None:
            return False
        self._journal.submitted([(ready.item, ready.job_id)])
        succeeded = mark.state is State.SUCCEEDED
        if not succeeded:
            # False where another was quicker: then it is under way all the same.
            patiently(lambda: put_back(self._publisher, self.ledger, request, mark), self._stop)
        self.add([(ready.item, ready.job_id)], before=None if succeeded else mark)
        return True

    def _ended(self, job_id: str, mark: ExplanationRecord | MedGemmaError) -> None:
        with self._lock:
            rows = self._rows.pop(job_id, [])
        for item, before in rows:
            if before is not None and before == mark:
                # For another row it was being read while the job was put back for this one.
                self.add([(item, job_id)], before=before)
            else:
                self._done(self._journal.ended(item, **_came_to(mark)))


def _came_to(mark: ExplanationRecord | MedGemmaError) -> dict[str, str | None]:
    if isinstance(mark, MedGemmaError):
        return {"state": RowState.FAILED, "code": mark.code, "message": mark.message}
    came_to: dict[str, str | None] = {"state": RowState(mark.state.value)}
    if mark.state is State.SUCCEEDED:
        return came_to | {"answer": mark.answer, "peak": peak_of(mark)}
    if mark.error is not None:
        came_to |= {"code": mark.error.code, "message": mark.error.message}
    return came_to
