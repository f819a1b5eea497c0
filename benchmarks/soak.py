"""Whether a worker keeps its memory: many phantom jobs, one after another, through Redis and S3.

Each hundredth job tells the resident memory of the worker's parent and of its child (the median of
the readings over the last half of them). Growth is from the first hundred to the last.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--window", type=int, default=100, help="jobs between two lines")
    asked = parser.parse_args()
    with EmbeddedStack() as stack, tempfile.TemporaryDirectory() as folder:
        os.environ.update(stack.environment(), MEDGEMMA_MODEL="phantom")
        with Path(folder, "worker.log").open("w") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "medgemma_worker.app"], stdout=log, stderr=log
            )
            try:
                readings = measure(worker.pid, asked.count, asked.window)
            finally:
                worker.terminate()
                worker.wait(60)
    good = True
    for name, values in readings.items():
        growth = values[-1] / values[0] - 1
        good = good and growth < LIMIT
        print(
            f"{name}: {values[0]:.1f} MB after the first {asked.window} jobs, {values[-1]:.1f} MB "
            f"after {asked.count}: {growth:+.1%} (under {LIMIT:.0%}): "
            f"{'met' if growth < LIMIT else 'MISSED'}"
        )
    return 0 if good else 1


def measure(parent: int, count: int, window: int) -> dict[str, list[float]]:
    """Median resident megabytes of parent and child, for each window of jobs."""
    store = Store(load_settings())
    while not store.exists(model_key("phantom")):
        time.sleep(0.2)
    (child,) = children(parent, "medgemma_worker.app")
    client, waiting = Client(), list[Job]()
    now: dict[str, list[float]] = {"parent": [], "child": []}
    found: dict[str, list[float]] = {"parent": [], "child": []}
    print(f"{'jobs':>6} {'parent MB':>10} {'child MB':>10} {'jobs/s':>7}", flush=True)
    began = time.monotonic()
    images = [make_phantom(800_000 + i).image for i in range(IMAGES)]
    for number in range(1, count + 1):
        image = images[number % IMAGES]
        waiting.append(client.submit(image, f"Is there a finding? ({number})"))
        if len(waiting) >= IN_FLIGHT or number == count:
            waiting.pop(0).wait(timeout=120, progress=False)
        now["parent"].append(resident(parent))
        now["child"].append(resident(child))
        if number % window == 0:
            for name, values in now.items():
                found[name].append(statistics.median(values[-window // 2 :]))
                values.clear()
            rate = window / (time.monotonic() - began)
            shown = " ".join(f"{values[-1]:10.1f}" for values in found.values())
            print(f"{number:>6} {shown} {rate:>7.2f}", flush=True)
            began = time.monotonic()
    return found


def resident(pid: int) -> float:
    """Megabytes of a process that are in memory now. Raises where it is gone: none may die."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB$", text, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024 / 1e6


def children(parent: int, *words: str) -> Sequence[int]:
    """The processes that a process forked of itself."""
    found: list[int] = []
    for task in Path(f"/proc/{parent}/task").iterdir():
        for pid in map(int, (task / "children").read_text().split()):
            line = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            if all(word in line for word in words):
                found.append(pid)
    return found


if __name__ == "__main__":
    sys.exit(main())
