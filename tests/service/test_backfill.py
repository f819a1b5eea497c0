"""A backfill from the command line, over real Redis, S3 and a stub worker."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import resource
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from medgemma_client import AsyncClient
from medgemma_client.aio import AsyncItem
from medgemma_client.backfill.item import RowState
from medgemma_tasks.errors import FileUnreadable
from medgemma_tasks.layout import job_prefix
from medgemma_tasks.models import State
from medgemma_tasks.queue import queue_names
from tests.parts import picture
from tests.service.harness import Service, WorkerProcess, until
from tests.stub_engine import ANSWER, StubEngine

WAIT = 90.0
ROWS = 60
FILES = {"results.csv", "failures.csv", "summary.json"}
JOURNAL = {"journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm"}
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
    path = service.worker.ledger_path
    lines = path.read_text().splitlines() if path.exists() else []
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


def test_killed_in_the_middle_and_started_again_it_ends_each_row_once(
    idle: Service, tmp_path: Path
) -> None:
    path = manifest(tmp_path, good_rows(tmp_path, ROWS, "sleep 0.05 row"))
    arguments = (str(path), "--out", "out", "--in-flight", "20", "--shard", "4")
    with idle.worker as worker:
        for ends in (5, 30):
            first = Command(tmp_path, *arguments)
            until(lambda ends=ends: starts(idle).total() >= ends, WAIT, lambda: worker.log)  # type: ignore[misc]
            first.process.send_signal(signal.SIGKILL)
            assert first.ends()[0] == -signal.SIGKILL
            assert not (tmp_path / "out" / "results.csv").exists()
        status, said, wrong = Command(tmp_path, *arguments).ends()
    assert status == 0, wrong
    assert f"{ROWS} rows: {ROWS} succeeded" in said
    results = table(tmp_path / "out" / "results.csv")
    assert [row["item"] for row in results] == [f"i{k:03}" for k in range(ROWS)]
    jobs = [row["job"] for row in results]
    assert len(set(jobs)) == ROWS
    assert marks_of(idle, jobs) == {State.SUCCEEDED: ROWS}
    assert starts(idle) == dict.fromkeys(jobs, 1)


def test_interrupted_it_writes_its_files_and_goes_on_later(idle: Service, tmp_path: Path) -> None:
    path = manifest(tmp_path, good_rows(tmp_path, ROWS, "sleep 0.05 row"))
    arguments = (str(path), "--out", "out", "--in-flight", "20")
    with idle.worker as worker:
        first = Command(tmp_path, *arguments)
        # Of so many it knows some results, having no more than 20 in flight.
        until(lambda: starts(idle).total() >= 25, WAIT, lambda: worker.log)
        first.process.send_signal(signal.SIGINT)
        status, said, wrong = first.ends()
        assert status == 130, wrong
        assert "not ended" in said
        assert "Start it again" in wrong
        assert "Traceback" not in wrong
        summary = json.loads((tmp_path / "out" / "summary.json").read_text())
        assert not summary["complete"]
        assert 0 < summary["succeeded"] < ROWS
        states = Counter(row["state"] for row in table(tmp_path / "out" / "results.csv"))
        assert states["succeeded"] == summary["succeeded"]
        assert states["submitted"] == summary["submitted"] <= 20
        assert table(tmp_path / "out" / "failures.csv") == []
        assert Command(tmp_path, *arguments).ends()[0] == 0
        before = starts(idle)
        assert before.total() == len(before) == ROWS
        # And once more: there is nothing to do.
        status, said, _ = Command(tmp_path, *arguments, "--json").ends()
    assert status == 0
    assert json.loads(said)["succeeded"] == ROWS
    assert starts(idle) == before


def test_on_a_disk_that_fills_it_stops_with_a_reason_and_goes_on_once_there_is_room(
    idle: Service, tmp_path: Path
) -> None:
    """A limit on the size of its files, set in the middle: to the kernel as good as a full disk."""
    path = manifest(tmp_path, good_rows(tmp_path, ROWS, "sleep 0.05 row"))
    arguments = (str(path), "--out", "out", "--in-flight", "20", "--shard", "4")
    out = tmp_path / "out"
    with idle.worker as worker:
        first = Command(tmp_path, *arguments)
        until(lambda: starts(idle).total() >= 10, WAIT, lambda: worker.log)
        written = (out / "journal.sqlite-wal").stat().st_size
        _, most = resource.prlimit(first.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(first.process.pid, resource.RLIMIT_FSIZE, (written + 20_000, most))
        status, _, wrong = first.ends()
        assert status == 1, wrong
        assert "[file_unwritable]" in wrong.splitlines()[-1]
        assert "Traceback" not in wrong
        assert {file.name for file in out.iterdir()} <= {".lock", *JOURNAL, *FILES}
        for name in {file.name for file in out.iterdir()} & {"results.csv", "failures.csv"}:
            assert (out / name).read_bytes().endswith(b"\r\n")
        status, said, wrong = Command(tmp_path, *arguments).ends()
    assert status == 0, wrong
    assert f"{ROWS} rows: {ROWS} succeeded" in said
    assert {file.name for file in out.iterdir()} == {".lock", "journal.sqlite", *FILES}
    jobs = [row["job"] for row in table(out / "results.csv")]
    assert marks_of(idle, jobs) == {State.SUCCEEDED: ROWS}
    assert starts(idle) == dict.fromkeys(jobs, 1)


def test_what_failed_runs_again_only_when_that_is_asked_for(idle: Service, tmp_path: Path) -> None:
    rows = [*good_rows(tmp_path, 3), ("crashes", "0.png", "crash once please", "")]
    path = manifest(tmp_path, [*rows, ("comes", "later.png", "Row?", "")])
    with idle.worker:
        assert Command(tmp_path, str(path), "--out", "out").ends()[0] == 1
        failures = table(tmp_path / "out" / "failures.csv")
        assert [row["code"] for row in failures] == ["internal_error", "file_unreadable"]
        picture().save(tmp_path / "later.png")
        assert Command(tmp_path, str(path), "--out", "out").ends()[0] == 1
        assert starts(idle).total() == 4
        status, said, _ = Command(tmp_path, str(path), "--out", "out", "--retry-failed").ends()
    assert status == 0, said
    assert table(tmp_path / "out" / "failures.csv") == []
    ran = sorted(starts(idle).values())
    assert ran == [1, 1, 1, 1, 2]


def test_a_queue_that_is_full_is_waited_for(
    idle: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four messages fit on the queue, and somebody else's fill it at first."""
    idle.ledger.publish_model(StubEngine().served)
    batch = queue_names("phantom")[1]
    idle.redis.lpush(batch, *["x"] * 4)
    monkeypatch.setenv("MEDGEMMA_MAX_QUEUED", "4")
    path = manifest(tmp_path, good_rows(tmp_path, 12))
    command = Command(tmp_path, str(path), "--out", "out", "--shard", "1")
    until((tmp_path / "out" / "journal.sqlite").exists, WAIT)
    requests = lambda: idle.ledger.store.keys("local/jobs/")  # noqa: E731
    until(lambda: len(requests()) == 12, WAIT)
    assert idle.redis.llen(batch) == 4
    idle.redis.delete(batch)
    until(lambda: idle.redis.llen(batch) == 4, WAIT)
    with idle.worker:
        assert command.ends()[0] == 0
    assert len(starts(idle)) == 12


def test_from_python_items_come_as_they_end_and_what_is_broken_off_goes_on(
    idle: Service, tmp_path: Path
) -> None:
    picture().save(tmp_path / "x.png")
    rows = [
        {"item": k, "image": tmp_path / "x.png", "prompt": f"sleep 0.05 row {k}", "ward": "4"}
        for k in range(20)
    ]
    aio = AsyncClient(idle.settings)

    async def first() -> list[AsyncItem]:
        seen: list[AsyncItem] = []
        async for item in aio.backfill(rows, run="mine", out=tmp_path / "out", in_flight=4):
            seen.append(item)
            if len(seen) == 5:
                break
        assert (await seen[0].result()).answer == ANSWER
        return seen

    async def cancelled() -> None:
        async for _ in aio.backfill(rows, run="mine", out=tmp_path / "out", in_flight=4):
            await asyncio.sleep(0.1)

    async def goes_wrong() -> None:
        async for _ in aio.backfill(tmp_path / "absent.csv"):
            pass

    with idle.worker:
        seen = asyncio.run(first())
        assert {item.state for item in seen} == {RowState.SUCCEEDED}
        assert seen[0].metadata == {"ward": "4"}
        assert ANSWER not in repr(seen)
        with pytest.raises(TimeoutError):
            asyncio.run(asyncio.wait_for(cancelled(), 1.0))
        assert not json.loads((tmp_path / "out" / "summary.json").read_text())["complete"]
        rest = list(idle.client.backfill(rows, run="mine", out=tmp_path / "out"))
        with pytest.raises(FileUnreadable):
            asyncio.run(goes_wrong())
    assert len(rest) == 20
    assert {item.earlier for item in rest if item.item in {i.item for i in seen}} == {True}
    assert starts(idle) == dict.fromkeys([item.job_id for item in rest], 1)
    assert sorted(idle.ledger.run_jobs("mine")) == sorted(str(item.job_id) for item in rest)


def test_what_would_be_refused_is_named_beforehand_and_nothing_is_asked(
    idle: Service, tmp_path: Path
) -> None:
    idle.ledger.publish_model(StubEngine().served)
    rows = [*good_rows(tmp_path, 3), ("i001", "0.png", "Twice?", ""), ("x", "-absent.png", "?", "")]
    path = manifest(tmp_path, rows)
    status, said, _ = Command(tmp_path, str(path), "--dry-run").ends()
    assert status == 1
    assert "3 rows can be asked, 2 would be refused; 3 images" in said
    assert "[duplicate_item]" in said
    assert "row 6 x: " in said
    assert "No estimate can be made" in said
    assert not idle.ledger.store.keys("local/")
    assert not (tmp_path / "runs").exists()


def test_a_manifest_that_cannot_be_used_ends_at_once(idle: Service, tmp_path: Path) -> None:
    idle.ledger.publish_model(StubEngine().served)
    path = tmp_path / "manifest.csv"
    path.write_text("item,prompt\n1,What?\n")
    status, _, wrong = Command(tmp_path, str(path), "--out", "out").ends()
    assert status == 1
    assert "[manifest_unusable]" in wrong
    assert str(tmp_path) not in wrong


def test_with_redis_gone_for_a_while_each_row_still_ends_once(
    idle: Service, tmp_path: Path
) -> None:
    """It loses its memory, with messages, bells and all."""
    path = manifest(tmp_path, good_rows(tmp_path, 20, "sleep 0.1 row"))
    with WorkerProcess(tmp_path, MEDGEMMA_VISIBILITY_TIMEOUT="4") as worker:
        command = Command(tmp_path, str(path), "--out", "out", "--shard", "4")
        until(lambda: starts(idle).total() >= 3, WAIT, lambda: worker.log)
        idle.redis.flushdb()
        status, _, wrong = command.ends()
    assert status == 0, wrong
    jobs = [row["job"] for row in table(tmp_path / "out" / "results.csv")]
    assert marks_of(idle, jobs) == {State.SUCCEEDED: 20}
