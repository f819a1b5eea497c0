"""A service in which a test breaks something, and what must hold of its jobs whatever it was.

All that workers and client put into S3 goes through a proxy that keeps a record of it and enforces
conditional puts, as AWS does. So each mark that was ever written is counted, not only the last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import patch

from medgemma_client.job import Job
from medgemma_tasks.in_hand import UNACKED
from medgemma_tasks.layout import job_prefix, request_key, result_key
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.models import ExplanationRecord, State
from medgemma_tasks.queue import make_app, publish, queue_names
from medgemma_tasks.settings import Settings
from medgemma_tasks.store import Store
from tests.faults.s3_proxy import Put, S3Proxy
from tests.service.harness import Service, WorkerProcess, until
from tests.stub_engine import StubEngine

MODEL = "phantom"
ARTIFACTS = {"relevancy.npz", "heatmap-0.png", "overlay-0.png"}
"""What the stub engine makes of a question about one image."""

AT_ONCE = 4
"""Jobs that are submitted, or looked at, beside each other."""


class Scene(Service):
    """A client, workers that can be started, the proxy before the store, and the way round it."""

    def __init__(self, settings: Settings, s3: S3Proxy, straight: Store, folder: Path) -> None:
        super().__init__(settings, WorkerProcess(folder))
        self.s3 = s3
        self.straight = Ledger(straight, self.live)
        self._folder = folder

    def another(self, name: str = "worker", **environment: str) -> WorkerProcess:
        """A worker, not started, with some settings of its own."""
        return WorkerProcess(self._folder, name, **environment)

    def open_gate(self) -> None:
        """Let all jobs whose prompt is "gate" go on, now and from here on."""
        self.worker.gate.touch()

    # --- jobs ----------------------------------------------------------------------------------

    def ask_all(self, prompts: Iterable[str]) -> list[Job]:
        """Submit a job for each prompt, whether or not a worker ever served."""
        self.straight.publish_model(StubEngine().served)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(self.ask, prompts))

    def ask_as_shard(self, prompts: Iterable[str]) -> list[Job]:
        """Submit a job for each prompt, with one message for them all."""
        with patch.object(self.client, "_publish"):
            jobs = self.ask_all(prompts)
        self.send(jobs)
        return jobs

    def send(self, jobs: Sequence[Job]) -> None:
        """Put one more message for these jobs on the queue."""
        ids = [job.id for job in jobs]
        publish(make_app(self.settings), self.settings, MODEL, ids, batch=len(ids) > 1)

    # --- what became of them -------------------------------------------------------------------

    def marks(self) -> Counter[str]:
        """How many terminal marks were stored for each job id, one over another or not."""
        return Counter(put.path.split("/")[-2] for put in self._stored("/result.json"))

    def artifacts_of(self, job: Job) -> set[str]:
        """The names of the artifacts of a job that were stored, by any attempt."""
        inside = f"/jobs/{job.id}/"
        paths = [put.path for put in self._stored("") if inside in put.path]
        return {path.rpartition("/")[2] for path in paths} & ARTIFACTS

    def messages(self) -> int:
        """How many messages are queued, or delivered and not acknowledged."""
        queued = sum(self.redis.llen(name) for name in queue_names(MODEL))
        return int(queued + self.redis.hlen(UNACKED))

    def mark(self, job: Job) -> bytes | None:
        """The bytes of a job's mark as they lie in the store."""
        return self.straight.store.get(result_key(self.straight.tenant, job.id))

    def finish(
        self, jobs: Sequence[Job], seconds: float, note: Callable[[], str] = lambda: ""
    ) -> None:
        """Wait until each of these jobs has a mark."""
        ids = {job.id for job in jobs}

        def missing() -> str:
            return f"{sorted(ids - self.marks().keys())} have no mark\n{note()}"

        until(lambda: ids <= self.marks().keys(), seconds, missing)

    def settle(
        self,
        jobs: Sequence[Job],
        *,
        state: State = State.SUCCEEDED,
        starts: int | None = 1,
        at_most: int = 1,
    ) -> None:
        """What must hold of jobs that ended, whatever happened to them.

        Each has one mark that was written once. All that it names is there, with the SHA-256 that
        it names. Nothing else lies under the job: no artifact of an attempt that lost. It was
        started ``starts`` times, or where that is None ``at_most`` so many times.
        """
        with ThreadPoolExecutor(AT_ONCE) as pool:
            records = list(pool.map(self._settled, jobs))
        assert {job.id: self.marks()[job.id] for job in jobs} == {job.id: 1 for job in jobs}
        assert [record.state for record in records] == [state] * len(jobs)
        started = [self.worker.starts(job) for job in jobs]
        if starts is not None:
            assert started == [starts] * len(jobs)
        else:
            assert all(1 <= number <= at_most for number in started), started

    def _settled(self, job: Job) -> ExplanationRecord:
        ledger = self.straight
        record = ledger.record(job.id)
        assert record is not None
        for artifact in record.artifacts.values():
            assert len(ledger.artifact(job.id, artifact)) == artifact.size
        succeeded = record.state is State.SUCCEEDED
        assert set(record.artifacts) == (ARTIFACTS if succeeded else set())
        under = job_prefix(ledger.tenant, job.id)
        named = {under + artifact.key for artifact in record.artifacts.values()}
        named |= {request_key(ledger.tenant, job.id), result_key(ledger.tenant, job.id)}
        # A loser discards what is its own a moment after the winner's mark.
        until(lambda: set(ledger.store.keys(under)) == named, 30.0, lambda: f"{named} are named")
        return record

    def _stored(self, end: str) -> list[Put]:
        return [put for put in self.s3.puts if put.stored and put.path.endswith(end)]
