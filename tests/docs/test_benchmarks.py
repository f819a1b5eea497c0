"""Benchmarks that need a machine or an hour which is not here still run, at a small size."""

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


def test_the_search_for_a_variant_runs_on_one_phantom_of_each_set(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/variants.py", "--count", "1", "--keep", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert "chosen there, by deletion area" in done.stdout
    assert "less chefer, deletion area on the report phantoms" in done.stdout
    assert {file.name for file in tmp_path.iterdir()} == {"700000-0.json", "800000-0.json"}
    assert "normalised" in json.loads((tmp_path / "800000-0.json").read_text())
