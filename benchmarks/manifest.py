"""A manifest row by row: seconds and peak memory for more and more rows, each in its own process.

python benchmarks/manifest.py [--most ROWS]
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from medgemma_client.backfill.manifest import read_rows
from medgemma_client.backfill.rows import Row

COUNTS = (10_000, 100_000, 1_000_000)
GROWTH = 8.0
"""MB by which the peak may differ between the fewest rows and the most."""


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--most", type=int, default=COUNTS[-1])
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        return _read(options.read)
    good = True
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("csv", "jsonl", "parquet"):
            peaks = []
            for count in (count for count in COUNTS if count <= options.most):
                path = Path(folder) / f"manifest.{suffix}"
                _write(path, count)
                command = [sys.executable, __file__, "--read", str(path)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                rows, seconds, peak = map(float, done.stdout.split())
                assert rows == count
                peaks.append(peak)
                size = path.stat().st_size / 1e6
                print(
                    f"{suffix} of {count} rows ({size:.0f} MB): {seconds:.1f} s, "
                    f"{count / seconds:.0f} rows/s, peak {peak:.0f} MB",
                    flush=True,
                )
            flat = peaks[-1] - peaks[0] < GROWTH
            print(
                f"{suffix}: the peak grows by less than {GROWTH:.0f} MB: "
                f"{'met' if flat else 'MISSED'}",
                flush=True,
            )
            good &= flat
    return 0 if good else 1


def _read(path: Path) -> int:
    began = time.perf_counter()
    rows = sum(isinstance(row, Row) for row in read_rows(path))
    seconds = time.perf_counter() - began
    # Not ru_maxrss, which begins with what the process had that started this one.
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak
    print(rows, seconds, int(peak[1]) / 1024)
    return 0


def _records(count: int) -> Iterator[dict[str, str]]:
    for number in range(count):
        yield {
            "item": f"case-{number}",
            "image": f"series-{number}/1.dcm;series-{number}/2.dcm",
            "prompt": "Is there a pleural effusion, and on which side?",
            "target": "keyword:effusion",
            "ward": str(number % 17),
        }


def _write(path: Path, count: int) -> None:
    if path.suffix == ".parquet":
        import pyarrow
        from pyarrow.parquet import ParquetWriter

        first = next(_records(1))
        schema = pyarrow.schema([(name, pyarrow.string()) for name in first])
        with ParquetWriter(path, schema) as writer:
            batch: list[dict[str, str]] = []
            for record in _records(count):
                batch.append(record)
                if len(batch) == 10_000:
                    writer.write_table(pyarrow.Table.from_pylist(batch, schema))
                    batch.clear()
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            file.writelines(json.dumps(record) + "\n" for record in _records(count))
            return
        writer = csv.DictWriter(file, list(next(_records(1))))
        writer.writeheader()
        writer.writerows(_records(count))


if __name__ == "__main__":
    sys.exit(main())
