"""A backfill whose process is killed at random moments and started again: does each row end exactly
once? Stub workers, on real Redis, S3 and processes; the audit reads the store and the workers' own
account of what they ran, not what the backfill says.

    python benchmarks/backfill_killed.py [--rows 2000] [--kills 5] [--workers 2] [--seed 1]
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from medgemma_cli.embedded import EmbeddedStack
from medgemma_tasks.layout import is_artifact, is_request, is_result, jobs_prefix
from medgemma_tasks.settings import load_settings
from tests.parts import picture
from tests.service.harness import Service, WorkerProcess, together, until

IN_FLIGHT = 200
"""So that rows are read, submitted and collected at all times."""
PATIENCE = 1800.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("rows", 2000), ("kills", 5), ("workers", 2), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    said = parser.parse_args()
    chance = random.Random(said.seed)
    moments = sorted(chance.randrange(said.rows * 9 // 10) for _ in range(said.kills))
    with EmbeddedStack() as stack, tempfile.TemporaryDirectory() as temporary:
        os.environ.update(stack.environment())
        folder = Path(temporary)
        workers = [WorkerProcess(folder, f"worker-{k}") for k in range(said.workers)]
        service = Service(load_settings(), workers[0])
        manifest = write_manifest(folder, said.rows)
        began = time.monotonic()
        with together(*workers):
            for moment in moments:
                killed_at(manifest, service, moment, chance.uniform(0, 3))
            process = start(manifest)
            status = process.wait(PATIENCE)
        print(f"{said.rows} rows, seed {said.seed}: {time.monotonic() - began:.0f} s in all")
        return audit(service, folder, said.rows, status)


def write_manifest(folder: Path, rows: int) -> Path:
    for grey in range(50):
        picture(grey=grey).save(folder / f"{grey}.png")
    path = folder / "manifest.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("item", "image", "prompt"))
        writer.writerows((f"item-{k}", f"{k % 50}.png", f"Row {k}?") for k in range(rows))
    return path


def start(manifest: Path) -> subprocess.Popen[bytes]:
    command = ["backfill", manifest.name, "--out", "out", "--in-flight", str(IN_FLIGHT)]
    with (manifest.parent / "backfill.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "medgemma_cli", *command],
            cwd=manifest.parent,
            stdout=log,
            stderr=log,
        )


def killed_at(manifest: Path, service: Service, moment: int, later: float) -> None:
    """Killed some time after so many jobs have ended, and after it has started."""
    process = start(manifest)
    journal = manifest.parent / "out" / "journal.sqlite"
    until(journal.exists, 60.0)
    until(lambda: ended(service) >= moment or process.poll() is not None, PATIENCE)
    time.sleep(later)
    process.kill()
    status = process.wait()
    seen = service.ledger.store.keys(jobs_prefix("local"))
    requests = sum(map(is_request, seen))
    marks = sum(map(is_result, seen))
    print(f"killed (status {status}) with {requests} submitted, {marks} ended", flush=True)


def lines(service: Service, what: str) -> list[str]:
    path = service.worker.ledger_path
    text = path.read_text() if path.exists() else ""
    return [line.split()[1] for line in text.splitlines() if line.startswith(f"{what} ")]


def ended(service: Service) -> int:
    return len(lines(service, "end"))


def audit(service: Service, folder: Path, rows: int, status: int) -> int:
    keys = service.ledger.store.keys(jobs_prefix("local"))
    marks = Counter(key.split("/")[2] for key in keys if is_result(key))
    requests = {key.split("/")[2] for key in keys if is_request(key)}
    attempts = {tuple(key.split("/")[2:4]) for key in keys if is_artifact(key)}
    history = [key for key in keys if "/history/" in key]
    with (folder / "out" / "results.csv").open(newline="") as file:
        results = list(csv.DictReader(file))
    jobs = Counter(row["job"] for row in results)
    items = Counter(row["item"] for row in results)
    started, finished = Counter(lines(service, "start")), Counter(lines(service, "end"))
    run = next(iter(service.ledger.store.keys("local/runs/"))).split("/")[2]
    named = Counter(service.ledger.run_jobs(run))
    checks = {
        "the last process exits with 0": status == 0,
        "results.csv has each row once": len(items) == rows == items.total(),
        "each row succeeded": all(row["state"] == "succeeded" for row in results),
        "each row has a job of its own": len(jobs) == rows,
        "each job has a request and one mark": set(marks) == requests == set(jobs),
        "no mark was taken back": not history,
        "each job was started once": set(started) == set(jobs) and started.total() == rows,
        "each job was finished once": set(finished) == set(jobs) and finished.total() == rows,
        "each job has one attempt's artifacts": len(attempts) == rows,
        "the store's manifest names each job once": named == jobs,
    }
    for check, holds in checks.items():
        print(f"{'yes' if holds else 'NO':>4}  {check}")
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
