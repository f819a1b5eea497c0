"""Benchmarks that take long, or need a machine which is not here, still run at a small shape."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command.split()],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_gpu_benchmark_runs_at_a_tiny_shape_on_a_cpu(tmp_path: Path) -> None:
    command = "benchmarks/gpu_relevancy.py --shape tiny --device cpu --lengths 300 --slices 2"
    done = run(f"{command} --rounds 1", OUT=str(tmp_path))
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "gpu_relevancy.json").read_text())["rows"]
    assert [row["way"] for row in rows if "seconds" not in row] == []
    assert {row["way"] for row in rows} >= {"floor", "ours", "ours, checkpointed"}
    assert rows[-1]["image tokens"] == 512
    assert all(row["estimated GiB"] > 0 for row in rows if row["way"].startswith("ours"))


@pytest.mark.parametrize(
    ("section", "sizes"),
    [
        ("cost", "--lengths 300 --ways floor ours"),
        ("tokens", "--prompt 280 --answer 3"),
    ],
)
def test_a_section_of_the_benchmark_says_whether_its_limits_are_met(
    section: str, sizes: str
) -> None:
    done = run(f"benchmarks/relevancy.py --only {section} --shape tiny --rounds 1 {sizes}")
    verdicts = [line.rsplit(": ")[-1] for line in done.stdout.splitlines() if ": " in line[-8:]]
    assert len(verdicts) == 2, done.stderr
    assert set(verdicts) <= {"met", "MISSED"}
    assert done.returncode == int("MISSED" in verdicts)


def test_polling_is_measured_with_a_few_clients() -> None:
    done = run("benchmarks/polling.py --seconds 2 --clients 4 --jobs 10")
    assert ", 0 errors" in done.stdout, done.stderr
    assert "4 clients, 10 jobs" in done.stdout


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
    assert {file.name for file in tmp_path.iterdir()} == {
        "blur-700000-0.json",
        "blur-800000-0.json",
    }
    assert "normalised" in json.loads((tmp_path / "blur-800000-0.json").read_text())


def test_the_soak_tells_what_each_process_of_a_worker_holds_and_leaves_nothing() -> None:
    done = run("benchmarks/soak.py --count 6 --window 3", OMP_NUM_THREADS="1")
    told = [line for line in done.stdout.splitlines() if "after the first 3 jobs" in line]
    assert {line.split(":")[0] for line in told} == {
        f"{process} {what}"
        for process in ("parent", "child", "beside")
        for what in ("MB", "files", "threads")
    }, done.stderr
    assert "left for ever: nothing" in done.stdout
    assert done.returncode == int("MISSED" in done.stdout)


def test_the_benchmark_of_shards_on_a_gpu_runs_at_a_tiny_shape_on_a_cpu(tmp_path: Path) -> None:
    command = "benchmarks/gpu_pipeline.py --tiny --shards 1 3 --answer 4 --rounds 1"
    done = run(command, OUT=str(tmp_path), OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "gpu_pipeline.json").read_text())["rows"]
    assert [row for row in rows if "jobs/s" not in row] == []
    assert {row["decoding"] for row in rows} == {"recorded", "plain", "the seed's way"}
    assert {(row["shard"], row.get("explaining")) for row in rows} >= {
        (1, "one by one"),
        (3, "together"),
    }


def test_the_benchmark_of_batches_finds_the_same_tokens_and_maps() -> None:
    done = run("benchmarks/batching.py --rounds 1 --long 4", OMP_NUM_THREADS="1")
    exact = [line for line in done.stdout.splitlines() if line.startswith(("8 of 8", "answered"))]
    assert len(exact) == 3, done.stderr
    assert all(line.endswith(": met") for line in exact)
    assert "explaining together takes" in done.stdout


def told(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What of a benchmark's lines stands before each verdict; the exit status agrees with them."""
    lines = [line.rpartition(": ") for line in done.stdout.splitlines()]
    found = [(what, verdict) for what, _, verdict in lines if verdict in ("met", "MISSED")]
    assert found, done.stderr
    assert done.returncode == int(any(verdict == "MISSED" for _, verdict in found)), done.stderr
    return [what for what, _ in found]


def test_many_workers_are_measured_with_shards_and_with_single_jobs() -> None:
    done = run("benchmarks/scale.py --workers 1 2 --seconds 0.1 --each 8 --idle 1")
    assert [what.partition(": ")[0] for what in told(done)] == [
        "2 workers, shards of 8",
        "2 workers, single jobs",
    ]
    ran = [
        line.strip().partition(" in ")[0]
        for line in done.stdout.splitlines()
        if " jobs in " in line
    ]
    assert ran[:2] == ["shards of 8, 8 jobs", "single jobs, 8 jobs"]
    assert ran[2:] == ["shards of 8, 16 jobs", "single jobs, 16 jobs"]
    assert " runs of " not in done.stdout  # each job ran once


def test_what_a_queued_job_costs_in_redis_is_told_by_size_of_message() -> None:
    done = run("benchmarks/queued.py --count 640 --shards 32 1")
    assert [what.partition(": ")[0] for what in told(done)] == ["messages of 32", "messages of  1"]


def test_shards_are_measured_against_single_jobs_on_one_worker() -> None:
    done = run("benchmarks/shards.py --count 4 --rounds 1 --shard 2", OMP_NUM_THREADS="1")
    assert [what.partition(": ")[0] for what in told(done)] == [
        "generation a job, times faster",
        "jobs a second, times more",
        "device busy within a shard",
    ]


def test_interactive_jobs_are_timed_beside_a_backfill() -> None:
    done = run("benchmarks/lanes.py --count 6 --shard 2", OMP_NUM_THREADS="1")
    waited, backfill = told(done)
    assert waited.startswith("p95 ")
    assert backfill.startswith("backfill: 6 of 6 jobs succeeded")


def test_a_backfill_over_pydicoms_files_names_each_that_it_refuses() -> None:
    done = run("benchmarks/backfill_dicom.py --most 8")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 files: {" in done.stdout
    assert done.stdout.count(" yes  ") == 3


def test_the_memory_of_a_whole_backfill_is_told_by_its_rows() -> None:
    done = run("benchmarks/backfill_memory.py --rows 60 120 --fresh 20 --workers 1")
    assert told(done) == ["the peak grows by less than 16 MB"]
    rows = [line.partition(" rows, 20 of them new: ")[0] for line in done.stdout.splitlines()]
    assert rows[:2] == ["60", "120"]
