"""The S3 store, as the ledger needs it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import suppress

from medgemma_cli.doctor.finding import Part, Told, failed, not_applicable, ok, warning
from medgemma_tasks.errors import StoreRefused
from medgemma_tasks.layout import probe_key, probes_prefix
from medgemma_tasks.settings import Settings
from medgemma_tasks.store import Store

SKEW = 5.0
"""Seconds between its clock and ours: signatures and presigned addresses have a time, and so have
deadlines. Its own is told in whole seconds."""


SKEWED = "RequestTimeTooSkewed"
"""What S3 says to who is a quarter of an hour off."""

NTP = (
    "Let both machines follow a time server (NTP): signatures, links to results and deadlines have "
    "a time."
)


class Storage:
    """The checks of a store. They write below ``<tenant>/probe/``, and delete that."""

    def __init__(
        self,
        settings: Settings,
        store: Store | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._store = store or Store(settings)
        self._now = now
        self._ahead: float | None = None
        """Seconds by which its clock is before ours, by its listing."""
        self._writes = True
        """Whether it lets us write, as far as ``objects`` found."""

    def part(self) -> Part:
        return "store", [
            ("connection", self.connection),
            ("objects", self.objects),
            ("conditional puts", self.conditional_puts),
            ("clock", self.clock),
        ]

    def connection(self) -> Told:
        """Whether it answers, knows us, and has the bucket."""
        prefix = probes_prefix(self._settings.tenant)
        try:
            self._store.keys(prefix)
        except StoreRefused as error:
            if SKEWED not in error.message:
                raise
            return failed(
                f"The store at {self._settings.store_address} says that our clock is wrong.", NTP
            )
        began = time.monotonic()
        self._store.keys(prefix)
        took = time.monotonic() - began
        return ok(f"The store at {self._settings.store_address} answers, in {1000 * took:.0f} ms.")

    def objects(self) -> Told:
        """Whether what is written can be read, is listed, and can be deleted."""
        key = probe_key(self._settings.tenant, secrets.token_hex(8))
        content = secrets.token_bytes(1024)
        doing = "write"
        try:
            self._store.put(key, content, "application/octet-stream")
            doing = "read"
            if self._store.get(key) != content:
                return self._given_up(
                    key, "What was written is read back as something else.", "Change the store."
                )
            doing = "list"
            before = self._now()
            listed = {entry.key: entry for entry in self._store.listing(key)}
            if key not in listed:
                return self._given_up(
                    key,
                    "What was written is not in the listing after it.",
                    "Take a store whose listings are consistent: jobs are found by them.",
                )
            entry = listed[key]
            theirs = entry.written_at.timestamp() + entry.age
            self._ahead = theirs - (before + self._now()) / 2
            doing = "delete"
            self._store.delete(key)
            if self._store.exists(key):
                return failed(
                    "What was deleted is still there.",
                    "Turn off what keeps objects of the bucket (versions that are locked).",
                )
        except StoreRefused as error:
            self._writes = doing != "write"
            return self._given_up(
                key,
                f"The store does not let us {doing} below {self._settings.tenant}/probe/ "
                f"(HTTP {error.details.get('status', 'none')}).",
                "Give these credentials a policy of deploy/s3; docs/security.md: who needs what.",
            )
        return ok("An object was written, read back, listed and deleted.")

    def conditional_puts(self) -> Told:
        if not self._writes:
            return not_applicable("See store, objects.")
        if self._store.conditional:
            return ok("They are enforced (If-None-Match).")
        return warning(
            "They are not enforced: a lock in Redis stands in, and one result for each job is not "
            "guaranteed.",
            "Take a store that enforces them at work: docs/operations.md.",
        )

    def clock(self) -> Told:
        if self._ahead is None:
            return not_applicable("See store, objects.")
        ahead = self._ahead
        found = (
            f"Its clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the one here."
        )
        if abs(ahead) <= 1.0:
            return ok("Its clock and the one here agree to a second.")
        if abs(ahead) > SKEW:
            return failed(found, NTP)
        return ok(found)

    def _given_up(self, key: str, found: str, advice: str) -> Told:
        with suppress(StoreRefused):
            self._store.delete(key)
        return failed(found, advice)
