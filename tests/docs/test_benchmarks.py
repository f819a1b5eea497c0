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


def test_the_benchmark_of_maps_over_patches_runs_on_one_phantom() -> None:
    command = "benchmarks/patches.py --count 1 --ways equal+abar positive"
    done = subprocess.run(
        [sys.executable, *command.split()], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = {line.split("  ")[0] for line in done.stdout.splitlines()}
    assert names >= {"coarse", "smooth", "shuffled", "equal+abar", "positive"}


def test_the_benchmark_of_what_they_cost_runs_at_a_small_shape() -> None:
    command = "benchmarks/patch_cost.py --layers 1 --side 224 --rounds 1"
    done = subprocess.run(
        [sys.executable, *command.split()], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "patch_maps" in done.stdout
