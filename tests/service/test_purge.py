"""The purge as an operator calls it, on a real S3 server, beside a run that goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from medgemma_tasks.layout import request_key
from medgemma_tasks.queue import queue_names
from tests.service.harness import Service, until
from tests.service.test_backfill import Command, good_rows, manifest, table
from tests.stub_engine import StubEngine

WAIT = 30.0


def purged(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "medgemma_cli", "purge", "--json", *arguments],
        capture_output=True,
        text=True,
        env=dict(os.environ),
        timeout=120,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_row_whose_request_was_deleted_before_it_ran_ends_as_failed(
    idle: Service, tmp_path: Path
) -> None:
    """And runs when that is asked for."""
    idle.ledger.publish_model(StubEngine().served)
    path = manifest(tmp_path, good_rows(tmp_path, 12))
    arguments = (str(path), "--out", "out", "--shard", "4")
    command = Command(tmp_path, *arguments)
    until(lambda: idle.redis.llen(queue_names("phantom")[1]) == 3, WAIT)
    gone = sorted(key.split("/")[2] for key in idle.ledger.store.keys("local/jobs/"))[:2]
    idle.ledger.store.delete(*(request_key("local", job) for job in gone))
    with idle.worker:
        status, said, wrong = command.ends()
        assert status == 1, wrong
        assert "12 rows: 10 succeeded, 2 failed" in said
        failures = table(tmp_path / "out" / "failures.csv")
        assert sorted(row["job"] for row in failures) == gone
        assert {row["code"] for row in failures} == {"job_purged"}
        status, said, _ = Command(tmp_path, *arguments, "--retry-failed").ends()
    assert status == 0, said
    assert table(tmp_path / "out" / "failures.csv") == []
