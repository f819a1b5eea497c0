"""How long a person waits while a backfill runs: interactive jobs between shards of phantoms.

One worker on the CPU, through Redis and S3. A backfill lies on the batch queue, in shards; jobs are
asked one after another, at random moments, through the client. Each should take no longer than its
own computing, the longest step of the device that it may find under way, and LEEWAY; and the
backfill should end, all of it, each job once.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from redis import Redis

from benchmarks._fleet import Fleet
from benchmarks._jobs import at, hearing, send, wait, written
from medgemma_cli.embedded import EmbeddedStack
from medgemma_client import Client
from medgemma_client.job import Job
from medgemma_tasks.models import ExplanationRecord
from medgemma_tasks.queue import make_app
from medgemma_tasks.settings import load_settings
from medgemma_worker.phantom.images import make_phantom

LEEWAY = 0.3
"""Seconds for fetching, storing and the way through the queue."""

COMPUTE = ("generating", "explaining", "rendering")
IMAGES = 50
FIRST_IMAGE, FIRST_ASKED = 820_000, 830_000
LONGEST_PAUSE = 1.5
"""Seconds between two jobs that are asked, at most."""

SECONDS_A_JOB = 10.0
"""A backfill that takes longer than this a job has hung."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500, help="jobs of the backfill")
    parser.add_argument("--shard", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    asked = parser.parse_args()
    with EmbeddedStack() as stack, tempfile.TemporaryDirectory() as folder:
        os.environ.update(stack.environment(), MEDGEMMA_MODEL="phantom")
        settings = load_settings()
        redis = Redis.from_url(stack.redis.url, decode_responses=True)
        with Fleet(Path(folder)) as fleet:
            fleet.grow(1)
            client, app = Client(settings), make_app(settings)
            images = [make_phantom(FIRST_IMAGE + k).image for k in range(IMAGES)]
            jobs = written(
                *(client, asked.count),
                lambda k: (images[k % IMAGES], f"Is there a finding? ({k})"),
            )
            client.submit(images[0], "Warm?").wait(timeout=60, progress=False)
            ids = [job.id for job in jobs]
            with hearing(redis) as heard:
                began = time.monotonic()
                send(app, settings, ids, asked.shard)
                waited, own = ask(client, ids, heard, random.Random(asked.seed))
                wait(ids, heard, SECONDS_A_JOB * asked.count)
                seconds = max(heard[job] for job in ids) - began
            records = [_record(job) for job in jobs]
    step = longest_step(records, asked.shard)
    once = sum(one.attempt == 1 for one in records)
    good = _told(waited, own, step)
    print(
        f"backfill: {len(records)} of {asked.count} jobs succeeded in {seconds:.0f} s, "
        f"{once} at their first start: {'met' if once == asked.count else 'MISSED'}"
    )
    return 0 if good and once == asked.count else 1


def ask(
    client: Client, backfill: Sequence[str], heard: dict[str, float], moments: random.Random
) -> tuple[list[float], list[float]]:
    """Seconds to the result in hand, and of own computing, of jobs asked while a backfill runs."""
    waited, own = list[float](), list[float]()
    while sum(job in heard for job in backfill) < len(backfill):
        time.sleep(moments.uniform(0.0, LONGEST_PAUSE))
        image = make_phantom(FIRST_ASKED + len(waited)).image
        began = time.monotonic()
        record = client.submit(image, "Is there a finding?").wait(60, progress=False).record
        waited.append(time.monotonic() - began)
        own.append(sum(record.seconds[name] for name in COMPUTE))
    return waited, own


def longest_step(records: Sequence[ExplanationRecord], size: int) -> float:
    """Seconds of the longest thing that the device did without a pause for the backfill: answering
    a shard together, of which each record has its part, or explaining one."""
    answering = max(
        sum(one.seconds["generating"] for one in records[start : start + size])
        for start in range(0, len(records), size)
    )
    return max(answering, max(one.seconds["explaining"] for one in records))


def _told(waited: Sequence[float], own: Sequence[float], step: float) -> bool:
    limit = statistics.median(own) + step + LEEWAY
    p95 = at(waited, 0.95)
    print(
        f"{len(waited)} jobs asked meanwhile: result in hand after p50 {at(waited, 0.5):.2f} s, "
        f"p95 {p95:.2f} s, at most {max(waited):.2f} s\n"
        f"own computing: median {statistics.median(own):.2f} s, p95 {at(own, 0.95):.2f} s; the "
        f"backfill's longest step: {step:.2f} s\n"
        f"p95 {p95:.2f} s (at most own computing + longest step + {LEEWAY} s = {limit:.2f} s): "
        f"{'met' if p95 <= limit else 'MISSED'}"
    )
    return p95 <= limit


def _record(job: Job) -> ExplanationRecord:
    """Of one that succeeded; else its own error is raised."""
    return job.wait(timeout=10, progress=False).record


if __name__ == "__main__":
    sys.exit(main())
