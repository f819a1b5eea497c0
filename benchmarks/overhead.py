"""What queue and store add to a job, with the embedded parts and a phantom PNG.

Overhead of a job: from ``Client.submit`` to the result in hand, less the worker's own generating,
explaining and rendering. One job at a time, each a new one, after a few that are not counted.
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

from medgemma_cli.embedded import EmbeddedStack
from medgemma_client import Client
from medgemma_tasks.layout import model_key
from medgemma_tasks.settings import load_settings
from medgemma_tasks.store import Store
from medgemma_worker.phantom.images import make_phantom

WARM, LIMIT = 5, 0.150
COMPUTE = ("generating", "explaining", "rendering")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=60)
    count = parser.parse_args().count
    with EmbeddedStack() as stack, tempfile.TemporaryDirectory() as folder:
        os.environ.update(stack.environment(), MEDGEMMA_MODEL="phantom")
        with Path(folder, "worker.log").open("w") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "medgemma_cli", "worker", "--gpus", "cpu"],
                stdout=log,
                stderr=log,
            )
            try:
                overheads, totals, stages = measure(Path(folder), count)
            finally:
                worker.terminate()
                worker.wait(30)
    for stage, seconds in stages.items():
        print(f"{stage:<12} median {statistics.median(seconds) * 1000:7.1f} ms")
    median = statistics.median(overheads)
    p95 = statistics.quantiles(overheads, n=20)[-1]
    good = median <= LIMIT
    print(f"submit to result in hand: median {statistics.median(totals) * 1000:.0f} ms")
    print(
        f"overhead over {count} jobs: median {median * 1000:.0f} ms, p95 {p95 * 1000:.0f} ms "
        f"(median at most {LIMIT * 1000:.0f} ms): {'met' if good else 'MISSED'}"
    )
    return 0 if good else 1


def measure(folder: Path, count: int) -> tuple[list[float], list[float], dict[str, list[float]]]:
    """Overheads, totals and the worker's stages, in seconds."""
    store = Store(load_settings())
    while not store.exists(model_key("phantom")):
        time.sleep(0.2)
    client = Client()
    overheads: list[float] = []
    totals: list[float] = []
    stages: dict[str, list[float]] = {}
    for i in range(WARM + count):
        path = folder / f"{i}.png"
        make_phantom(800_000 + i).image.save(path)
        began = time.perf_counter()
        result = client.submit(path, "Is there a finding?").wait(timeout=120, progress=False)
        total = time.perf_counter() - began
        if i < WARM:
            continue
        seconds = result.record.seconds
        totals.append(total)
        overheads.append(total - sum(seconds[name] for name in COMPUTE))
        for name, value in seconds.items():
            stages.setdefault(name, []).append(value)
    return overheads, totals, stages


if __name__ == "__main__":
    sys.exit(main())
