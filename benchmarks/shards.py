"""What answering together is worth: shards against single-job messages, on the phantom.

One real worker on the CPU, through Redis and S3, requests written ahead by the client library. Both
ways run in turn, round by round, each round with new questions; ratios are within rounds.

- Generation: seconds of the device that a job's answer took, its part of those of a batch.
- Throughput: jobs over the seconds from the first message to the last result.
- Device busy: within a shard, what the device generated and explained over the time from the start
  of its first job to the end of its last.
- CPU a job, of all parts that run here: over the number of cores it is the least time a job can
  take, however the work is laid out.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from redis import Redis

from benchmarks._fleet import Fleet, Spent, of_all
from benchmarks._jobs import hearing, send, wait, written
from medgemma_cli.embedded import EmbeddedStack
from medgemma_client import Client
from medgemma_client.job import Job
from medgemma_tasks.models import ExplanationRecord
from medgemma_tasks.queue import make_app
from medgemma_tasks.settings import load_settings
from medgemma_worker.phantom.images import make_phantom

FASTER, MORE, BUSY = 2.5, 2.0, 0.9
"""At least: generation a job and jobs a second, against single jobs; the device's share."""

STAGES = ("loading", "generating", "explaining", "rendering", "storing")

FIRST_IMAGE = 810_000
SECONDS_A_JOB = 10.0
"""A run that takes longer than this a job has hung."""


@dataclass(frozen=True)
class Ran:
    """A round of one way."""

    generating: float
    """Seconds of the device, a job."""
    rate: float
    """Jobs a second."""
    busy: float
    """The device's share within a message; the median of all."""
    stages: dict[str, float]
    """Seconds of a job by stage, beside others; the mean of all."""
    cpu: float
    """Seconds of all parts, a job."""


class Bench:
    """Runs phantom jobs on one worker."""

    def __init__(self, url: str, spending: Callable[[], Spent]) -> None:
        self._spending = spending
        self._settings = load_settings()
        self._app = make_app(self._settings)
        self._client = Client(self._settings)
        self._redis = Redis.from_url(url, decode_responses=True)
        self._next = FIRST_IMAGE

    def run(self, count: int, size: int) -> Ran:
        """So many new questions in messages of a size."""
        images = [make_phantom(self._next + k).image for k in range(count)]
        self._next += count
        jobs = written(self._client, count, lambda k: (images[k], "Is there a finding?"))
        ids = [job.id for job in jobs]
        with hearing(self._redis) as heard:
            began, spending = time.monotonic(), self._spending()
            send(self._app, self._settings, ids, size)
            wait(ids, heard, SECONDS_A_JOB * count)
            seconds = max(heard[job] for job in ids) - began
            _, spent = spending.since()
        records = [_record(job) for job in jobs]
        return Ran(
            generating=statistics.fmean(one.seconds["generating"] for one in records),
            rate=count / seconds,
            busy=statistics.median(
                busy(records[start : start + size]) for start in range(0, count, size)
            ),
            stages={
                stage: statistics.fmean(one.seconds[stage] for one in records) for stage in STAGES
            },
            cpu=sum(each for part, each in spent.items() if part != "machine") / count,
        )


def busy(records: Sequence[ExplanationRecord]) -> float:
    """The device's share of the time of a message's jobs, from the first start to the last end."""
    device = sum(one.seconds["generating"] + one.seconds["explaining"] for one in records)
    started = min(one.submitted_at.timestamp() + one.seconds["waiting"] for one in records)
    return device / (max(one.finished_at for one in records).timestamp() - started)


def _record(job: Job) -> ExplanationRecord:
    """Of one that succeeded; else its own error is raised."""
    return job.wait(timeout=10, progress=False).record


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=48, help="jobs of a round, of either way")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shard", type=int, default=8)
    asked = parser.parse_args()
    rounds: list[tuple[Ran, Ran]] = []
    with EmbeddedStack() as stack, tempfile.TemporaryDirectory() as folder:
        os.environ.update(stack.environment(), MEDGEMMA_MODEL="phantom")
        with Fleet(Path(folder)) as fleet:
            fleet.grow(1)
            bench = Bench(stack.redis.url, lambda: of_all(fleet, stack))
            for size in (asked.shard, 1):
                bench.run(asked.shard, size)  # not counted: what is loaded once
            for _ in range(asked.rounds):
                rounds.append((bench.run(asked.count, asked.shard), bench.run(asked.count, 1)))
                for name, ran in zip(
                    (f"shards of {asked.shard}", "single"), rounds[-1], strict=True
                ):
                    print(
                        f"{name:<12} generation {1000 * ran.generating:6.1f} ms a job, "
                        f"{ran.rate:5.2f} jobs/s, device busy {ran.busy:.2f}",
                        flush=True,
                    )
                    print(
                        "             a job's ms: "
                        + ", ".join(f"{stage} {1000 * t:.0f}" for stage, t in ran.stages.items())
                        + f"; CPU {1000 * ran.cpu:.0f} ms on {os.cpu_count()} cores",
                        flush=True,
                    )
    faster = statistics.median(one.generating / many.generating for many, one in rounds)
    more = statistics.median(many.rate / one.rate for many, one in rounds)
    share = statistics.median(many.busy for many, _ in rounds)
    found = (
        ("generation a job, times faster", faster, FASTER),
        ("jobs a second, times more", more, MORE),
        ("device busy within a shard", share, BUSY),
    )
    for what, value, least in found:
        print(f"{what}: {value:.2f} (at least {least}): {'met' if value >= least else 'MISSED'}")
    return 0 if all(value >= least for _, value, least in found) else 1


if __name__ == "__main__":
    sys.exit(main())
