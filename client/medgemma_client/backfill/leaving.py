"""What a run says of itself in the store: its jobs, in parts, and how long they are kept."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from medgemma_client.backfill.journal import Journal
from medgemma_tasks.layout import run_key
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.models import ManifestLine, RunRecord

PART = 10_000
"""Lines of a part of the manifest."""
SAID_EVERY = 10.0
"""Seconds after which a part that is not full is written again."""


class Leavings:
    """Writes a run's objects; for one thread at a time. A part is written again until it is full,
    so that each holds all jobs of its places, whatever broke off before."""

    def __init__(self, ledger: Ledger, journal: Journal, record: RunRecord) -> None:
        self._ledger, self._journal, self._record = ledger, journal, record
        self._part = self._said = int(journal.fact("part") or 0)
        self._said = -1
        self._said_at = float("-inf")

    def begin(self) -> None:
        """Before the first job is published, so that ``purge`` knows of the run."""
        self._put_record()
        self.say(at_once=True)

    def say(self, *, at_once: bool = False) -> None:
        """Name the jobs that were submitted since it was done last, now and then."""
        places = self._journal.places
        full = (places - 1) // PART > self._part
        if not (at_once or full or time.monotonic() > self._said_at + SAID_EVERY):
            return
        if places == self._said:
            return
        while True:
            jobs = self._journal.jobs(self._part * PART, (self._part + 1) * PART)
            lines = (ManifestLine.model_validate({"job": job, "row": row}) for job, row in jobs)
            self._ledger.put_manifest(self._record.run, lines, self._part)
            if (self._part + 1) * PART >= places:
                break
            self._part += 1
            self._journal.note("part", str(self._part))
        self._said, self._said_at = places, time.monotonic()

    def end(self, summary: Mapping[str, Any]) -> None:
        """After the last job, and when the run is broken off."""
        self.say(at_once=True)
        self._put_record()
        self._put("summary.json", json.dumps(summary, indent=2))

    def _put_record(self) -> None:
        record = self._record.model_copy(update={"worked_at": datetime.now(UTC)})
        self._put("run.json", record.model_dump_json())

    def _put(self, name: str, content: str) -> None:
        key = run_key(self._ledger.tenant, self._record.run, name)
        self._ledger.store.put(key, content.encode())
