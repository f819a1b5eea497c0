"""The sweep as an operator calls it, after a worker was killed where it hurts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from secrets import token_hex

from medgemma_tasks.layout import artifact_path, job_prefix, probe_key, probes_prefix
from medgemma_tasks.models import State
from tests.service.harness import Service, WorkerProcess, until
from tests.stub_engine import ANSWER, StubEngine

WAIT = 30.0


def swept(*arguments: str) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, "-m", "medgemma_cli", "sweep", "--json", *arguments],
        capture_output=True,
        text=True,
        env=dict(os.environ),
        timeout=60,
        check=True,
    )
    found: dict[str, int] = json.loads(done.stdout)
    return found


def test_what_a_worker_left_that_was_killed_before_its_mark_is_swept_once_the_job_has_one(
    idle: Service, tmp_path: Path
) -> None:
    idle.ledger.publish_model(StubEngine().served)
    store = idle.ledger.store
    job = idle.ask("sleep 0.2 first killed between artifacts and mark?")
    # Its artifacts lie there and its mark does not: as if it had been killed just then.
    left = idle.ledger.put_artifacts(job.id, "1-ab", {"relevancy.npz": (b"12345", "x/y")})
    store.put(probe_key("local", "ab"), b"1")
    assert swept("--older-than", "0", "--dry-run")["artifacts"] == 0  # it has no mark yet
    with WorkerProcess(tmp_path):
        result = job.wait(WAIT)
        until(lambda: not idle.live.known(), WAIT)
    assert swept()["artifacts"] == 0  # it is young
    idle.live.start_attempt(job.id, token_hex(4))  # and this worker, just after its mark
    assert swept("--older-than", "0") == {
        "artifacts": len(left),
        "probes": 1,
        "size": 6,
        "keys": 1,
        "young": 0,
        "unreadable": 0,
    }
    under = store.keys(job_prefix("local", job.id))
    assert sorted(filter(None, map(artifact_path, under))) == sorted(
        artifact.key for artifact in result.record.artifacts.values()
    )
    assert store.keys(probes_prefix("local")) == []
    assert not idle.redis.keys(f"medgemma:*:{job.id}")
    assert swept("--older-than", "0")["artifacts"] == 0
    result.overlay()
    assert result.answer == ANSWER


def test_a_stopped_worker_finds_what_it_stored_and_its_job_keeps_all_it_names(
    idle: Service, tmp_path: Path
) -> None:
    with WorkerProcess(tmp_path) as worker:
        job = idle.ask("gate")
        idle.running(job)
        os.killpg(worker.pid, signal.SIGSTOP)
        idle.ledger.put_artifacts(job.id, "9-ab", {"relevancy.npz": (b"12345", "x/y")})
        assert swept("--older-than", "0")["artifacts"] == 0
        worker.gate.touch()
        os.killpg(worker.pid, signal.SIGCONT)
        until(lambda: job.status().state is State.SUCCEEDED, WAIT)
        assert swept("--older-than", "0")["artifacts"] == 1
        job.result().overlay()
