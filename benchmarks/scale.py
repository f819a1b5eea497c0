"""Throughput of up to 64 workers on one Redis and one store, against what their devices could do.

The device is a timed stub (benchmarks/_timed.py); all else is real: the client writes the requests,
the messages go through Redis, each worker is a parent and a child process, and each job has six
writes to the store (arrays, four pictures, the mark). Requests are written, and workers ready,
before the clock starts.

For each number of workers, once with shards and once with single-job messages:

- ``of ideal``: jobs a second of all workers, each from the first publish to the last result of its
  own, over workers / SECONDS. A worker that waits at the end, because nothing is left, is not
  counted as working; that share is under ``to the end``, which is all jobs over all the time.
- ``overhead``: milliseconds a job beyond the device's, and ``gap``: from the end of a job on the
  device to the beginning of the next (median and 95th percentile). ``to the first``, ``after the
  last``: from the first publish until a worker's device begins, and from its end to the last
  result; the overhead has its part of both.
- CPU milliseconds a job: of the workers' parents and children, of Redis and of the store.
- Redis: commands a job, and bytes a job that was queued.
"""

from __future__ import annotations

import argparse
import os
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from PIL import Image
from redis import Redis

from benchmarks._fleet import Fleet, of_all
from benchmarks._jobs import at, hearing, send, wait, written
from benchmarks._timed import SIDE, served
from medgemma_cli.embedded import EmbeddedStack
from medgemma_client import Client
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.queue import make_app
from medgemma_tasks.settings import Settings, load_settings
from medgemma_tasks.store import Store
from medgemma_worker.supervisor.places import telling
from medgemma_worker.supervisor.reconciler import beside_this_thread

MODEL = "timed"
AIMS = {8: 0.95, 1: 0.85}
"""Least share of the ideal, by jobs in a message, with the largest number of workers."""

SHARD = 8


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--seconds", type=float, default=4.0, help="of the device, a job")
    parser.add_argument("--each", type=int, default=40, help="jobs for each worker")
    parser.add_argument("--reports", type=int, default=1, help="of a job's progress")
    parser.add_argument("--shards", type=int, nargs="+", default=[SHARD, 1])
    parser.add_argument("--idle", type=float, default=20.0, help="seconds to watch idle workers")
    asked = parser.parse_args()
    with EmbeddedStack() as stack, tempfile.TemporaryDirectory() as folder:
        os.environ.update(stack.environment(), MEDGEMMA_MODEL=MODEL)
        ledger = Path(folder, "ledger")
        environment = {
            "MEDGEMMA_ENGINE": "benchmarks._timed:load",
            "TIMED_SECONDS": str(asked.seconds),
            "TIMED_REPORTS": str(asked.reports),
            "TIMED_LEDGER": str(ledger),
        }
        settings, shares = load_settings(), dict[int, float]()
        # As a supervisor does for the workers of its host.
        with (
            Fleet(Path(folder), **environment) as fleet,
            beside_this_thread(settings),
            telling(settings),
        ):
            bench = Bench(stack, fleet, settings, ledger, asked.seconds)
            for workers in sorted(asked.workers):
                taken = fleet.grow(workers)
                print(f"{workers} workers were ready in {taken:.0f} s", flush=True)
                bench.idle(asked.idle)
                for size in asked.shards:
                    shares[size] = bench.run(workers * asked.each, size)
    good = True
    for size, share in shares.items():
        met = share >= AIMS.get(size, AIMS[SHARD])
        good = good and met
        print(
            f"{max(asked.workers)} workers, {_kind(size)}: {share:.3f} of ideal (at least "
            f"{AIMS.get(size, AIMS[SHARD])}): {'met' if met else 'MISSED'}"
        )
    return 0 if good else 1


@dataclass(frozen=True)
class Span:
    """What a worker's device did for a job, on the monotonic clock."""

    job_id: str
    worker: str
    began: float
    ended: float


class Bench:
    """Runs jobs on a fleet, and prints a block for each run."""

    def __init__(
        self, stack: EmbeddedStack, fleet: Fleet, settings: Settings, ledger: Path, seconds: float
    ) -> None:
        self._stack = stack
        self._fleet = fleet
        self._settings = settings
        self._spans = ledger
        self._seconds = seconds
        self._app = make_app(settings)
        self._live = LiveState(settings)
        self._ledger = Ledger(Store(settings), self._live)
        self._redis = Redis.from_url(stack.redis.url, decode_responses=True)

    def idle(self, seconds: float) -> None:
        """What workers cost that have nothing to do."""
        commands, spent = self._commands(), of_all(self._fleet, self._stack)
        time.sleep(seconds)
        passed, cpu = spent.since()
        if passed:
            each = {name: 1000 * cpu[name] / passed / len(self._fleet) for name in cpu}
            print(
                f"  idle, CPU ms a second and worker: parent {each['parents']:.2f}, child "
                f"{each['children']:.2f}, Redis {each['redis']:.2f}; Redis commands a second and "
                f"worker: {(self._commands() - commands) / passed / len(self._fleet):.1f}",
                flush=True,
            )

    def run(self, count: int, size: int) -> float:
        """Run so many jobs in messages of a size; their throughput as a share of the ideal."""
        empty = self._memory()
        jobs = self._written(count)
        with hearing(self._redis) as heard:
            commands, spent = self._commands(), of_all(self._fleet, self._stack)
            began = time.monotonic()
            send(self._app, self._settings, jobs, size)
            queued = self._memory()
            wait(jobs, heard, 3 * count / len(self._fleet) * self._seconds + 60)
            passed, cpu = spent.since()
            commands = self._commands() - commands
            ended = dict(heard)
        mine = self._spans_of(jobs)
        rates = [len(spans) / (ended[spans[-1].job_id] - began) for spans in mine]
        share = sum(rates) * self._seconds / len(self._fleet)
        whole = count * self._seconds / (max(ended.values()) - began) / len(self._fleet)
        overhead = statistics.fmean(1 / rate - self._seconds for rate in rates)
        gaps = [
            1000 * (after.began - before.ended)
            for spans in mine
            for before, after in pairwise(spans)
        ]
        starts = [spans[0].began - began for spans in mine]
        tails = [ended[spans[-1].job_id] - spans[-1].ended for spans in mine]
        each = {name: 1000 * value / count for name, value in cpu.items()}
        ours = sum(value for name, value in cpu.items() if name != "machine") / passed
        print(
            f"  {_kind(size)}, {count} jobs in {passed:.1f} s: {share:.3f} of ideal, "
            f"{whole:.3f} to the end; overhead {1000 * overhead:.0f} ms, gap "
            f"{at(gaps, 0.5):.0f} / {at(gaps, 0.95):.0f} ms, to the first {at(starts, 0.5):.2f} s, "
            f"after the last {at(tails, 0.5):.2f} s\n"
            f"    CPU ms a job: parents {each['parents']:.0f}, children {each['children']:.0f}, "
            f"Redis {each['redis']:.1f}, store {each['s3']:.0f}, here {each['here']:.0f}; all "
            f"{ours:.2f} cores, and what else runs here {cpu['machine'] / passed - ours:.2f}\n"
            f"    Redis: {commands / count:.0f} commands a job, {(queued - empty) / count:.0f} B "
            f"a queued job",
            flush=True,
        )
        return share

    def _written(self, count: int) -> list[str]:
        """The ids of new jobs."""
        self._ledger.publish_model(served(MODEL))
        image, batch = Image.effect_noise((SIDE, SIDE), 64), secrets.token_hex(4)
        client = Client(self._settings)
        return [job.id for job in written(client, count, lambda k: (image, f"{k} {batch}?"))]

    def _spans_of(self, jobs: Sequence[str]) -> list[list[Span]]:
        """By worker, in order. Each job ran once: a second run would be told as a fault."""
        wanted, found = set(jobs), dict[str, list[Span]]()
        for line in self._spans.read_text().splitlines():
            job_id, worker, began, ended = line.split()
            if job_id in wanted:
                span = Span(job_id, worker, float(began), float(ended))
                found.setdefault(worker, []).append(span)
        runs = sum(map(len, found.values()))
        if runs != len(jobs):
            print(f"    {runs} runs of {len(jobs)} jobs", flush=True)
        return [sorted(spans, key=lambda span: span.began) for spans in found.values()]

    def _commands(self) -> int:
        return int(self._redis.info("stats")["total_commands_processed"])

    def _memory(self) -> int:
        """Bytes, without what is there for connections and on its way to the disk."""
        info = self._redis.info("memory")
        return int(info["used_memory"] - info["mem_clients_normal"] - info["mem_aof_buffer"])


def _kind(size: int) -> str:
    return f"shards of {size}" if size > 1 else "single jobs"


if __name__ == "__main__":
    sys.exit(main())
