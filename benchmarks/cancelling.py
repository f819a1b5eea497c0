"""How soon a cancelled job's process is free: between steps, in the middle of a long one, and where
it hears no signal and is killed. A stub model, on real Redis, S3 and worker processes.

From ``Job.cancel`` to the start of the job behind it, or to the death of the process.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from medgemma_cli.embedded import EmbeddedStack
from medgemma_tasks.settings import load_settings
from tests.service.harness import Service, WorkerProcess, until

LIMIT = 5.0
ROUNDS = 5
WAYS = {
    "at its next step": "sleep 60",
    "in the middle of a step": "hang 60",
    "deaf, by a kill": "deaf hang 60",
}


def main() -> int:
    good = True
    with EmbeddedStack() as stack, tempfile.TemporaryDirectory() as folder:
        os.environ.update(stack.environment())
        service = Service(load_settings(), WorkerProcess(Path(folder)))
        with service.worker:
            for way, behaviour in WAYS.items():
                seconds = [cancelled(service, f"{behaviour} {way} {n}") for n in range(ROUNDS)]
                good = good and max(seconds) <= LIMIT
                print(
                    f"{way:<24} median {statistics.median(seconds):.1f} s, longest "
                    f"{max(seconds):.1f} s (at most {LIMIT:.0f} s): "
                    f"{'met' if max(seconds) <= LIMIT else 'MISSED'}",
                    flush=True,
                )
    return 0 if good else 1


def cancelled(service: Service, prompt: str) -> float:
    """Seconds until the process that ran the job is free of it."""
    worker, job = service.worker, service.ask(prompt)
    service.running(job)
    behind, child = service.ask(f"Behind {prompt.split()[-1]} {job.id}?"), worker.child_of(job)
    began = time.monotonic()
    job.cancel()
    until(lambda: worker.starts(behind) or not psutil.pid_exists(child), 30.0)
    seconds = time.monotonic() - began
    behind.wait(60, progress=False)
    return seconds


if __name__ == "__main__":
    sys.exit(main())
