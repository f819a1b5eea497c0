"""What a whole backfill holds in memory, for more and more rows: the command itself, on real Redis
and S3 with stub workers, each size in a process of its own.

    python benchmarks/backfill_memory.py [--rows 10000 100000] [--fresh 1000] [--workers 2]

The first rows of each size are new questions: read, uploaded, published, run and heard of. A
million of those would take hours, so the others ask what was asked before. Each of these is read
from the manifest, met in the journal, has its image read by a process, is found ended in the store,
gets its mark, and is written to journal and results.csv, as any other; only its request is not
written, and no message is sent. Memory is the largest resident set that the kernel saw (VmHWM) of
the command, and of a process that reads images for it.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from medgemma_cli.embedded import EmbeddedStack
from tests.parts import picture
from tests.service.harness import WorkerProcess, together

KNOWN = 50
"""Questions that are asked over and over, each about an image of its own."""
GROWTH = 16.0
"""MB by which the peak may differ between the fewest rows and the most."""
LOOKED_EVERY = 0.2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--fresh", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    said = parser.parse_args()
    peaks = []
    with EmbeddedStack() as stack, tempfile.TemporaryDirectory() as temporary:
        os.environ.update(stack.environment())
        folder = Path(temporary)
        for grey in range(KNOWN):
            picture(grey=grey).save(folder / f"{grey}.png")
        with together(*(WorkerProcess(folder, f"worker-{k}") for k in range(said.workers))):
            backfill(write(folder, KNOWN, fresh=0), KNOWN)
            for rows in said.rows:
                seconds, peak, reader = backfill(write(folder, rows, said.fresh), rows)
                peaks.append(peak)
                print(
                    f"{rows} rows, {said.fresh} of them new: {seconds:.0f} s, "
                    f"{rows / seconds:.0f} rows/s, peak {peak:.0f} MB, and {reader:.0f} MB of "
                    f"each reader",
                    flush=True,
                )
    flat = max(peaks) - peaks[0] < GROWTH
    print(f"the peak grows by less than {GROWTH:.0f} MB: {'met' if flat else 'MISSED'}")
    return 0 if flat else 1


def write(folder: Path, rows: int, fresh: int) -> Path:
    path = folder / f"manifest-{rows}.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("item", "image", "prompt", "ward"))
        for k in range(rows):
            new = f"Row {k} of {rows}?" if k < fresh else f"Known {k % KNOWN}?"
            writer.writerow((f"item-{k}", f"{k % KNOWN}.png", new, f"ward {k % 17}"))
    return path


def backfill(manifest: Path, rows: int) -> tuple[float, float, float]:
    """Seconds, and the peaks in MB of the command and of the largest of its readers. SystemExit
    where a row did not succeed."""
    began = time.monotonic()
    log = manifest.with_suffix(".log")
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "medgemma_cli", "backfill", manifest.name, "--out", log.stem],
            cwd=manifest.parent,
            stdout=file,
            stderr=file,
        )
        peak = reader = 0.0
        while process.poll() is None:
            peak = max(peak, peak_of(process.pid))
            for child in children(process.pid):
                reader = max(reader, peak_of(child))
            time.sleep(LOOKED_EVERY)
    said = log.read_text()
    if process.returncode or f"{rows} rows: {rows} succeeded" not in said:
        raise SystemExit(said[-2000:])
    with (manifest.parent / log.stem / "results.csv").open("rb") as file:
        assert sum(1 for _ in file) == rows + 1
    return time.monotonic() - began, peak, reader


def peak_of(pid: int) -> float:
    """MB; none of a process that has just ended. Not ru_maxrss, which begins with what the process
    had that started this one."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


def children(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.NoSuchProcess:
        return []


if __name__ == "__main__":
    sys.exit(main())
