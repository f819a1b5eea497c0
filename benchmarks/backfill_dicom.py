"""A backfill over all files that pydicom ships for its tests: what is asked, refused, and why.

One worker with the phantom model, on real Redis, S3 and processes. What is no image must be refused
by its item with a code, and stop no other row.

    python benchmarks/backfill_dicom.py [--most 500] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pydicom.data import get_testdata_files

from benchmarks._fleet import Fleet
from medgemma_cli.embedded import EmbeddedStack

PARTIAL = 1
"""Exit status of a backfill of which some rows failed or were refused."""


def write_manifest(folder: Path, most: int) -> Path:
    files = sorted(path for path in map(Path, get_testdata_files()) if path.is_file())[:most]
    path = folder / "manifest.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("item", "image", "prompt"))
        writer.writerows(
            (f"{number:03d}-{one.name}", one, "Is there a finding?")
            for number, one in enumerate(files)
        )
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=int, default=500, help="files at most")
    parser.add_argument("--out", type=Path, help="where the run's files stay")
    said = parser.parse_args()
    with EmbeddedStack() as stack, tempfile.TemporaryDirectory() as temporary:
        os.environ.update(stack.environment(), MEDGEMMA_MODEL="phantom")
        folder = Path(temporary)
        out = folder / "out" if said.out is None else said.out
        manifest = write_manifest(folder, said.most)
        with Fleet(folder) as fleet:
            fleet.grow(1)
            command = ["-m", "medgemma_cli", "backfill", str(manifest), "--out", str(out)]
            status = subprocess.run([sys.executable, *command], check=False).returncode
        rows, results = rows_of(manifest), rows_of(out / "results.csv")
        failures = rows_of(out / "failures.csv")
    states = Counter(row["state"] for row in results)
    codes = Counter(row["code"] for row in failures)
    print(f"{len(rows)} files: {dict(sorted(states.items()))}")
    print(f"refused or failed: {dict(codes.most_common())}")
    checks = {
        "each file has one row": sorted(row["item"] for row in results)
        == sorted(row["item"] for row in rows),
        "each either succeeded or is named with code and cause": {
            row["item"] for row in failures if row["code"] and row["cause"]
        }
        == {row["item"] for row in results if row["state"] != "succeeded"},
        "the exit status says so": status == (PARTIAL if failures else 0),
    }
    for check, holds in checks.items():
        print(f"{'yes' if holds else 'NO':>4}  {check}")
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
