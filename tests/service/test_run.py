"""A run whose messages Redis lost, brought to its end by hand."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

from medgemma_tasks.layout import job_prefix
from medgemma_tasks.models import ManifestLine, State
from medgemma_tasks.queue import make_app, publish, queue_names
from medgemma_tasks.walking import pages
from medgemma_worker.supervisor.reconciler import LOCK
from tests.parts import picture, reference, request_for
from tests.service.harness import Service, WorkerProcess, until

WAIT = 90.0
SHORT = {"MEDGEMMA_VISIBILITY_TIMEOUT": "4"}
JOBS, SHARD = 60, 8


def submitted(idle: Service) -> list[str]:
    """The jobs of a run, as a backfill writes them: input, requests, manifest, then shards."""
    png = io.BytesIO()
    picture().save(png, "PNG")
    idle.ledger.put_input(reference(picture()), png.getvalue())
    requests = [request_for(f"sleep 0.2 of {number}") for number in range(JOBS)]
    for request in requests:
        idle.ledger.put_request(request.model_copy(update={"batch": True}))
    jobs = [request.job_id for request in requests]
    idle.ledger.put_manifest("nightly", [ManifestLine(job=job) for job in jobs])
    app = make_app(idle.settings)
    for shard in pages(jobs, SHARD):
        publish(app, idle.settings, "phantom", shard, batch=True)
    return jobs


def reconcile(*arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "medgemma_cli", "reconcile", "nightly", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **SHORT},
        timeout=60,
        check=True,
    ).stdout


def test_a_run_that_lost_its_messages_is_brought_to_its_end_by_hand(
    idle: Service, tmp_path: Path
) -> None:
    jobs = submitted(idle)
    with WorkerProcess(tmp_path, **SHORT) as worker:
        until(lambda: sum(map(idle.ledger.finished, jobs)) >= SHARD, WAIT, lambda: worker.log)
        with idle.redis.pipeline(transaction=True) as pipe:
            pipe.flushall()
            # Somebody else leads, as it seems: the worker's own reconciler has nothing to say.
            pipe.set(f"medgemma:lock:{LOCK}", "another", ex=3600)
            pipe.execute()
        interactive, batch = queue_names("phantom")
        assert idle.redis.llen(batch) == 0

        said = json.loads(reconcile("--json"))
        assert said["put_back"]
        assert said["finished"] + said["known"] + len(said["put_back"]) == said["jobs"] == JOBS
        assert idle.redis.llen(batch) > 0  # where it came from: nobody in a hurry waits behind it
        assert idle.redis.llen(interactive) == 0

        until(lambda: all(map(idle.ledger.finished, jobs)), WAIT, lambda: worker.log)
        assert "was lost" not in worker.log
        assert reconcile().splitlines()[-1] == f"{JOBS} of {JOBS} jobs have ended"
    for job_id in jobs:
        record = idle.ledger.record(job_id)
        assert record is not None
        assert record.state is State.SUCCEEDED
        under = idle.ledger.store.keys(job_prefix("local", job_id))
        assert len(under) == 2 + len(record.artifacts)
