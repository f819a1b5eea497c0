"""Whether a worker leaks: many phantom jobs, one after another, through Redis and S3.

Each hundredth job tells the resident memory, the open files and the threads of the worker's parent,
of its child and of the process beside them (medians of the readings over the last half of them).
Growth is from the first hundred to the last. In the end: what is left in Redis without a time to
live, and in the worker's folder for temporary files.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import redis

from medgemma_cli.embedded import EmbeddedStack
from medgemma_client import Client
from medgemma_client.job import Job
from medgemma_tasks.layout import model_key
from medgemma_tasks.settings import load_settings
from medgemma_tasks.store import Store
from medgemma_worker.phantom.images import make_phantom

LIMIT = 0.05
IMAGES = 50
IN_FLIGHT = 4
"""Jobs that wait in the queue at a time, so that the worker never does."""

TURNS = "20"
"""Seconds between two sweeps of the reconciler: the first is over long before the hundredth job."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--window", type=int, default=100, help="jobs between two lines")
    asked = parser.parse_args()
    with EmbeddedStack() as stack, tempfile.TemporaryDirectory() as folder:
        os.environ.update(stack.environment(), MEDGEMMA_MODEL="phantom")
        temporary = Path(folder, "temporary")
        temporary.mkdir()
        with Path(folder, "worker.log").open("w") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "medgemma_worker.app"],
                env={**os.environ, "TMPDIR": str(temporary), "MEDGEMMA_VISIBILITY_TIMEOUT": TURNS},
                stdout=log,
                stderr=log,
            )
            try:
                readings = measure(psutil.Process(worker.pid), asked.count, asked.window)
            finally:
                worker.terminate()
                worker.wait(60)
        left = [
            *(f"the key {key}" for key in for_ever(stack.redis.url)),
            *(f"the file {path.name}" for path in temporary.rglob("*") if not path.is_dir()),
        ]
    good = not left
    for name, values in readings.items():
        growth = values[-1] / values[0] - 1
        good = good and growth < LIMIT
        print(
            f"{name}: {values[0]:.1f} after the first {asked.window} jobs, {values[-1]:.1f} "
            f"after {asked.count}: {growth:+.1%} (under {LIMIT:.0%}): "
            f"{'met' if growth < LIMIT else 'MISSED'}"
        )
    print(f"left for ever: {', '.join(left) or 'nothing'}")
    return 0 if good else 1


def measure(parent: psutil.Process, count: int, window: int) -> dict[str, list[float]]:
    """Medians of what each process has, by the name of both, for each window of jobs."""
    store = Store(load_settings())
    while not store.exists(model_key("phantom")):
        time.sleep(0.2)
    processes = {"parent": parent}
    for process in parent.children():
        beside = "medgemma_worker.supervisor.beside" in process.cmdline()
        processes["beside" if beside else "child"] = process
    assert len(processes) == 1 + 2
    client, waiting = Client(), list[Job]()
    now: dict[str, list[float]] = {
        f"{name} {what}": [] for name in processes for what in ("MB", "files", "threads")
    }
    found: dict[str, list[float]] = {name: [] for name in now}
    print(f"{'jobs':>6} {' '.join(f'{name:>14}' for name in now)} {'jobs/s':>7}", flush=True)
    began = time.monotonic()
    images = [make_phantom(800_000 + i).image for i in range(IMAGES)]
    for number in range(1, count + 1):
        image = images[number % IMAGES]
        waiting.append(client.submit(image, f"Is there a finding? ({number})"))
        while len(waiting) >= IN_FLIGHT or (waiting and number == count):
            waiting.pop(0).wait(timeout=120, progress=False)
        for name, process in processes.items():  # raises where one is gone: none may die
            now[f"{name} MB"].append(process.memory_info().rss / 1e6)
            now[f"{name} files"].append(process.num_fds())
            now[f"{name} threads"].append(process.num_threads())
        if number % window == 0:
            for name, values in now.items():
                found[name].append(statistics.median(values[-window // 2 :]))
                values.clear()
            rate = window / (time.monotonic() - began)
            shown = " ".join(f"{values[-1]:14.1f}" for values in found.values())
            print(f"{number:>6} {shown} {rate:>7.2f}", flush=True)
            began = time.monotonic()
    return found


def for_ever(url: str) -> list[str]:
    """The keys in Redis that nothing ends, but for kombu's own, of which there are three."""
    with redis.Redis.from_url(url, decode_responses=True) as connection:
        return [
            key
            for key in connection.scan_iter("*", 1000)
            if connection.ttl(key) == -1 and not key.startswith("_kombu.binding")
        ]


if __name__ == "__main__":
    sys.exit(main())
