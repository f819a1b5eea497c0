"""The run itself: questions and faults side by side, then calm, then the audit."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from medgemma_tasks.layout import result_key
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.store import Store
from medgemma_tasks.sweep import Sweeper
from tests.faults.chaos.asker import Asker
from tests.faults.chaos.asks import questions
from tests.faults.chaos.audit import ORPHANS, Findings, audit_jobs, unnamed
from tests.faults.chaos.audit_parts import (
    BOUNDED,
    KEYS,
    QUEUES,
    TEMPORARY,
    files_left,
    folders_left,
    keys_left,
    kinds_of_keys,
    kinds_swept,
    starts,
    too_often,
    waiting,
    wasted,
)
from tests.faults.chaos.deaf import deaf_workers
from tests.faults.chaos.faults import Faults
from tests.faults.chaos.fleet import MAX_ATTEMPTS, ORPHANS_END, Fleet, Worker, wait_for_end
from tests.faults.chaos.plan import plan
from tests.faults.chaos.report import Report
from tests.faults.chaos.supervised import Supervised
from tests.faults.chaos.watch import Watch

CLIENTS = "every client came to its end, and was told of nothing but parts that are away"
ALIVE = "no worker ended by itself"
OUTLIVED = "no process goes on for long after its supervisor"
CONSUMING = "every worker still takes jobs in the end, and ends when it is told to"

ASKING, FAULTS = 0.6, 0.8
"""Parts of the time: in which jobs are asked, and in which faults are done. The rest is calm."""

PATIENCE = 120.0
"""Seconds without one more mark after which the missing ones count as lost."""

TELL = 10.0
"""Seconds between two lines of progress."""

LOCKS = 40.0
"""Seconds in which every lock in Redis, of which the longest are of 30, is over."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    seconds: float = 600.0
    jobs: int = 2000
    workers: int = 3
    supervisors: bool = False
    """Whether the workers are supervisors, each with two devices."""
    seed: int = 1
    conditional: bool = True
    """Whether the proxy enforces conditional puts as AWS does; without, the lock in Redis must."""


class Run:
    """One run. ``folder`` is emptied first; it holds the logs, and the data of both servers."""

    def __init__(self, options: Options, folder: Path, say: Say = print) -> None:
        self.options = options
        self.folder = folder
        self._say = say
        self._findings = Findings()
        self._seconds: dict[str, float] = {}

    def __call__(self) -> Report:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        begun = datetime.now(UTC)
        many, supervisors = self.options.workers, self.options.supervisors
        kind = Supervised if supervisors else Worker
        fleet = Fleet(self.folder, many, self.options.conditional, kind)
        with ExitStack() as stack:
            stack.enter_context(fleet)
            what = "supervisors" if supervisors else "workers"
            self._say(f"{many} {what} serve; the faults begin")
            watch = stack.enter_context(Watch(fleet.s3_proxy, fleet.straight))
            seconds = self.options.seconds
            batches = questions(self.options.seed, ASKING * seconds, self.options.jobs)
            asker = stack.enter_context(Asker(fleet.settings, batches))
            agenda = plan(self.options.seed, FAULTS * seconds, many, supervisors)
            faults = Faults(fleet, agenda)
            self._storm(fleet, faults, asker, watch)
            self._calm(fleet, asker, watch)
            return self._audit(begun, fleet, faults, asker, watch)

    # --- until all have ended ------------------------------------------------------------------

    def _storm(self, fleet: Fleet, faults: Faults, asker: Asker, watch: Watch) -> None:
        start = told = time.monotonic()
        while (now := time.monotonic()) - start < self.options.seconds or not faults.over:
            faults.due(now - start)
            fleet.supervise()
            if now - told >= TELL:
                told = now
                self._say(
                    f"{now - start:4.0f} s: {len(asker.asked)} jobs asked, {watch.marks} marked; "
                    f"{faults.done.total()} faults, the last: {faults.last}"
                )
            if faults.over and asker.done and watch.marks >= len(asker.asked):
                break
            time.sleep(0.02)
        self._seconds["under faults"] = round(time.monotonic() - start, 1)

    def _calm(self, fleet: Fleet, asker: Asker, watch: Watch) -> None:
        """Wait for what is still missing."""
        store, tenant = Store(fleet.straight), fleet.straight.tenant
        start = told = moved = time.monotonic()
        marked: set[str] = set()
        before: tuple[int, int] | None = None
        while True:
            fleet.supervise()
            done, asked = asker.done, list(asker.asked)  # in this order
            missing = [
                job_id
                for job_id in asked
                if job_id not in marked and not store.exists(result_key(tenant, job_id))
            ]
            if done:  # until then a job may be put back, and lose its mark
                marked = set(asked) - set(missing)
            now = time.monotonic()
            if before != (before := (len(asked), len(missing))):
                moved = now
            if now - told >= TELL:
                told = now
                self._say(f"calm for {now - start:.0f} s: {len(missing)} jobs without a mark")
            quiet = done and not missing and not waiting(fleet.redis, fleet.straight.model)
            if quiet or now - moved > PATIENCE:
                break
            time.sleep(0.5)
        self._seconds["until the last mark, in calm"] = round(time.monotonic() - start, 1)
        clients = self._findings.ask(CLIENTS)
        clients += asker.defects
        if not asker.done:
            clients.append("a client still waits")

    # --- afterwards ----------------------------------------------------------------------------

    def _audit(
        self, begun: datetime, fleet: Fleet, faults: Faults, asker: Asker, watch: Watch
    ) -> Report:
        self._end_workers(fleet, asker)
        self._say("the workers have ended; the audit begins")
        findings, asked = self._findings, list(asker.asked.values())
        live = LiveState(fleet.straight)
        findings.ask(QUEUES)
        ledger = Ledger(Store(fleet.straight), live)
        puts = fleet.s3_proxy.puts
        if left := waiting(fleet.redis, fleet.straight.model):
            findings.ask(QUEUES).append(f"{left} messages")
        audit_jobs(ledger, asked, puts, watch.seen, findings)
        before = unnamed(ledger, asked)
        self._settle(fleet)
        kinds = kinds_swept(live, asked)
        swept = Sweeper(ledger.store, live, age=0, probe_age=0).sweep()
        findings.ask(ORPHANS).extend(unnamed(ledger, asked))
        findings.ask(KEYS).extend(keys_left(fleet.redis, asked))
        findings.ask(TEMPORARY).extend(files_left(fleet.workers))
        findings.ask(ALIVE).extend(fleet.by_themselves)
        started = starts(fleet.ledger_path.read_text().splitlines())
        # Redis forgets the count when it is flushed; a worker told to end takes its start back.
        flushed, ended = faults.done["redis flushed"], faults.told_to_end
        limit = MAX_ATTEMPTS * (1 + flushed) + ended
        findings.ask(BOUNDED).extend(too_often(started, asked, limit))
        figures = {
            "jobs": len(asked),
            "jobs put back by their clients": findings.put_back,
            "commits": "conditional puts" if fleet.conditional else "the lock in Redis",
            "marks stored": sum(one.stored for one in puts if one.path.endswith("/result.json")),
            "starts of the model": started.total(),
            "of them wasted": wasted(started, asked),
            "workers started": sum(worker.spawns for worker in fleet.workers),
            "workers that did not end when told to": faults.killed_in_the_end,
            "devices given up": sum(worker.given_up for worker in fleet.workers),
            "failures that clients were told of": dict(asker.failures),
            "objects that nothing named, before the sweep": len(before),
            "keys of finished jobs, before the sweep": kinds,
            "swept": asdict(swept),
            "empty temporary folders that killed workers left": folders_left(fleet.workers),
            **{f"seconds {name}": value for name, value in self._seconds.items()},
        }
        return Report(
            begun=begun,
            arguments=asdict(self.options),
            folder=self.folder,
            findings=findings,
            redis_version=str(fleet.redis.info("server")["redis_version"]),
            faults=dict(sorted(faults.done.items())),
            figures=figures,
            keys=kinds_of_keys(fleet.redis),
        )

    def _end_workers(self, fleet: Fleet, asker: Asker) -> None:
        """In good order, after each has shown that it is not deaf."""
        found = self._findings.ask(CONSUMING)
        found += deaf_workers(fleet, asker)
        found += [f"{line}, told to end" for line in fleet.badly]
        for worker in fleet.workers:
            worker.tell_to_end()
        for worker in fleet.workers:
            if not wait_for_end(worker, 30.0):
                found.append(f"{worker.name} did not end")
                worker.kill()
            elif worker.ended() not in worker.fine:
                found.append(f"{worker.name} ended with status {worker.ended()}")
        deadline = time.monotonic() + ORPHANS_END
        while fleet.orphans() and time.monotonic() < deadline + 1:
            time.sleep(0.1)
        self._findings.ask(OUTLIVED).extend(fleet.outlived)

    def _settle(self, fleet: Fleet) -> None:
        """Until the locks of those who were killed are over, for they hold keys of jobs, and the
        last words of those who ended, since a sweep spares what is in hand by them."""
        deadline = time.monotonic() + LOCKS
        while time.monotonic() < deadline and any(
            next(fleet.redis.scan_iter(pattern), None)
            for pattern in ("medgemma:lock:*/*", "medgemma:running:*")
        ):
            time.sleep(0.5)
