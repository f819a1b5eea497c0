"""A deaf worker lives and takes nothing; beside others that do, nobody would notice."""

from __future__ import annotations

import time

from medgemma_client.client import Client
from medgemma_client.job import Job
from tests.faults.chaos.asker import Asker
from tests.faults.chaos.asks import Ask, Kind
from tests.faults.chaos.fleet import Fleet
from tests.parts import picture

PATIENCE = 90.0
"""Seconds in which each worker must have taken a job, on a busy machine."""


def deaf_workers(fleet: Fleet, asker: Asker) -> list[str]:
    """The workers, of supervisors their devices, that take none of many jobs, a line each. All of
    these jobs end first."""
    client, start, read = Client(fleet.straight), time.monotonic(), len(_lines(fleet))
    hearing: set[str] = set()
    number, jobs = 0, list[Job]()
    names = {lane for worker in fleet.workers for lane in worker.lanes()}
    while len(hearing) < len(names) and time.monotonic() - start < PATIENCE:
        for _ in range(2 * len(names)):
            number += 1
            ask = Ask(Kind.SLEEP, f"sleep 0.3 in the calm, {number}", 0.0)
            jobs.append(client.submit(picture(), ask.prompt))
            asker.note(jobs[-1].id, ask)
        while time.monotonic() - start < PATIENCE and not all(map(_ended, jobs)):
            time.sleep(0.1)
        pids = {int(line.split()[2]) for line in _lines(fleet)[read:]}
        lanes = [lane for worker in fleet.workers for lane in worker.lanes().items()]
        hearing |= {lane for lane, children in lanes if pids & set(children)}
    return [f"{name} lives, and took none of {number} jobs" for name in sorted(names - hearing)]


def _ended(job: Job) -> bool:
    return job.status().state.terminal


def _lines(fleet: Fleet) -> list[str]:
    return fleet.ledger_path.read_text().splitlines()
