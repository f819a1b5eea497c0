"""A backfill from the command line, over real Redis, S3 and a stub worker."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from medgemma_tasks.layout import job_prefix
from medgemma_tasks.models import State
from tests.parts import picture
from tests.service.harness import Service
from tests.stub_engine import ANSWER

WAIT = 90.0
ROWS = 60
COLUMNS = ("item", "image", "prompt", "ward")


class Command:
    """``medgemma-explainer backfill`` in a process of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "medgemma_cli", "backfill", *arguments],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "COLUMNS": "200"},
        )

    def ends(self) -> tuple[int, str, str]:
        """Exit status, standard output and error."""
        try:
            said, wrong = self.process.communicate(timeout=WAIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return self.process.returncode, said, wrong


def manifest(folder: Path, rows: list[tuple[str, str, str, str]]) -> Path:
    path = folder / "manifest.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return path


def good_rows(folder: Path, count: int, prompt: str = "Row") -> list[tuple[str, str, str, str]]:
    for grey in range(4):
        picture(grey=grey).save(folder / f"{grey}.png")
    return [(f"i{k:03}", f"{k % 4}.png", f"{prompt} {k}?", f"=W{k}") for k in range(count)]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def starts(service: Service) -> Counter[str]:
    lines = service.worker.ledger_path.read_text().splitlines()
    return Counter(line.split()[1] for line in lines if line.startswith("start "))


def marks_of(service: Service, jobs: list[str]) -> Counter[str]:
    """States; each job has exactly one mark, and no earlier one."""
    states: Counter[str] = Counter()
    for job in jobs:
        record = service.ledger.record(job)
        assert record is not None
        states[record.state] += 1
        assert not service.ledger.store.keys(job_prefix("local", job) + "history/")
    return states


def test_a_manifest_comes_to_its_answers_and_what_cannot_be_asked_is_named(
    idle: Service, tmp_path: Path
) -> None:
    rows = good_rows(tmp_path, ROWS)
    rows[3] = ("i003", "absent.png", "Nothing?", "")
    rows[7] = ("i006", "0.png", "Whose item is it?", "")
    rows[9] = ("i009", "text.png", "No image?", "")
    rows[11] = ("i011", "0.png", "crash please", "")
    rows[13] = ("i013", "", "No image named?", "")
    (tmp_path / "text.png").write_text("this is no image")
    path = manifest(tmp_path, rows)
    with idle.worker:
        status, said, wrong = Command(tmp_path, str(path), "--out", "out", "--shard", "8").ends()
    assert (status, wrong.splitlines()[1:]) == (1, []), wrong
    assert "55 succeeded, 1 failed, 0 cancelled, 4 refused" in said
    results = table(tmp_path / "out" / "results.csv")
    assert [row["item"] for row in results] == [row[0] for row in rows]
    assert Counter(row["state"] for row in results) == {
        "succeeded": 55,
        "failed": 1,
        "refused": 4,
    }
    good = [row for row in results if row["state"] == "succeeded"]
    assert {row["answer"] for row in good} == {ANSWER}
    assert all(row["peak"] and row["path"].endswith(f"/{row['job']}/") for row in good)
    assert good[0]["ward"] == "'=W0"  # no program takes it for a formula
    failures = {row["row"]: row["code"] for row in table(tmp_path / "out" / "failures.csv")}
    assert failures == {
        "5": "file_unreadable",
        "9": "duplicate_item",
        "11": "not_an_image",
        "13": "internal_error",
        "15": "row_incomplete",
    }
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["rows"], summary["succeeded"], summary["complete"]) == (ROWS, 55, True)
    jobs = [row["job"] for row in results if row["job"]]
    assert marks_of(idle, jobs) == {State.SUCCEEDED: 55, State.FAILED: 1}
    assert sorted(idle.ledger.run_jobs(summary["run"])) == sorted(jobs)
    assert set(starts(idle).values()) == {1}
