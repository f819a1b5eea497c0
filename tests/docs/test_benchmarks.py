"""Benchmarks that need a machine which is not here still run, at a small shape."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_gpu_benchmark_runs_at_a_tiny_shape_on_a_cpu(tmp_path: Path) -> None:
    command = "benchmarks/gpu_relevancy.py --shape tiny --device cpu --lengths 300 --rounds 1"
    subprocess.run(
        [sys.executable, *command.split()],
        cwd=ROOT,
        env={**os.environ, "OUT": str(tmp_path)},
        check=True,
    )
    rows = json.loads((tmp_path / "gpu_relevancy.json").read_text())["rows"]
    assert [row["way"] for row in rows if "seconds" not in row] == []
    assert {row["way"] for row in rows} >= {"floor", "ours", "ours, checkpointed"}
