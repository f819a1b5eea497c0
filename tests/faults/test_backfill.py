"""A backfill whose store fails in the middle: each row still ends once, and was run once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import pytest

from medgemma_client.backfill.patience import patiently
from medgemma_tasks.layout import run_key
from tests.faults.scene import Scene
from tests.faults.test_store import AWAY, HELD, KINDS, WAIT
from tests.service.harness import until
from tests.service.test_backfill import Command, good_rows, manifest, starts, table
from tests.stub_engine import StubEngine

if TYPE_CHECKING:
    from medgemma_cli.embedded import EmbeddedS3

ROWS = 60
BEFORE = 15
"""Jobs that were started when the store fails: of the others some are not submitted yet."""
HANGS = 8.0
"""Seconds: longer than the client waits for an answer."""


def begun(scene: Scene, folder: Path) -> Command:
    """A run that reads, submits and collects at once."""
    path = manifest(folder, good_rows(folder, ROWS, "sleep 0.05 row"))
    command = Command(folder, str(path), "--out", "out", "--in-flight", "20", "--shard", "4")
    until(lambda: starts(scene).total() >= BEFORE, WAIT, lambda: scene.worker.log)
    return command


def ends_whole(scene: Scene, folder: Path, command: Command) -> None:
    status, said, wrong = command.ends()
    assert status == 0, wrong
    assert f"{ROWS} rows: {ROWS} succeeded" in said
    results = table(folder / "out" / "results.csv")
    assert [row["item"] for row in results] == [f"i{k:03}" for k in range(ROWS)]
    assert table(folder / "out" / "failures.csv") == []
    summary = json.loads((folder / "out" / "summary.json").read_text())
    jobs = [row["job"] for row in results]
    # rclone, started again, answered 500 in an audit once: as the run, it asks again.
    named = patiently(lambda: list(scene.ledger.run_jobs(summary["run"])), Event())
    assert sorted(named) == sorted(jobs)
    patiently(lambda: scene.settle([scene.client.job(job) for job in jobs]), Event())


@pytest.mark.parametrize("kind", KINDS)
def test_with_the_store_away_for_a_while_each_row_ends_once(
    scene: Scene, tmp_path: Path, kind: str
) -> None:
    with scene.worker as worker:
        command = begun(scene, tmp_path)
        KINDS[kind](scene)
        if kind == "hangs":
            time.sleep(HANGS)
        else:
            until(lambda: AWAY in worker.log, WAIT, lambda: worker.log)
            time.sleep(HELD)
        scene.s3.restore()
        ends_whole(scene, tmp_path, command)


def test_with_the_server_of_the_store_killed_each_row_ends_once(
    scene: Scene, s3_server: EmbeddedS3, tmp_path: Path
) -> None:
    with scene.worker as worker:
        command = begun(scene, tmp_path)
        s3_server.kill()
        try:
            until(lambda: AWAY in worker.log, WAIT, lambda: worker.log)
        finally:
            s3_server.start()
        ends_whole(scene, tmp_path, command)


def test_a_store_that_is_busy_as_a_run_begins_and_as_it_ends_is_waited_for(
    scene: Scene, tmp_path: Path
) -> None:
    def refusing(name: str) -> Callable[[str, str], bool]:
        return lambda method, path: method == "PUT" and path.endswith(name)

    out = tmp_path / "out"
    scene.straight.publish_model(StubEngine().served)
    with scene.worker as worker:
        scene.s3.busy(refusing("/run.json"))
        path = manifest(tmp_path, good_rows(tmp_path, 4))
        command = Command(tmp_path, str(path), "--out", "out")
        until((out / "journal.sqlite").exists, WAIT)
        time.sleep(HELD)
        assert not starts(scene)
        scene.s3.busy(refusing("/summary.json"))
        until((out / "summary.json").exists, WAIT, lambda: worker.log)  # all but the store's
        scene.s3.restore()
        status, _, wrong = command.ends()
    assert status == 0, wrong
    summary = json.loads((out / "summary.json").read_text())
    stored = scene.straight.store.get(run_key("local", summary["run"], "summary.json"))
    assert stored is not None
    assert json.loads(stored) == summary
