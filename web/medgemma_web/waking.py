"""Waking the streams of a job when it ends, from the one thread that hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

Key = tuple[str, str]
"""A tenant and a job's id."""


class Waking:
    """All streams of this process. But for ``wake`` it is used in the loop alone."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: dict[Key, set[asyncio.Event]] = {}
        self.stopping = False

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def stop(self) -> None:
        """Wake them all, for good."""
        self.stopping = True
        for events in self._waiting.values():
            for event in events:
                event.set()

    def wake(self, tenant: str, job_id: str) -> None:
        """From any thread."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                self._loop.call_soon_threadsafe(self._wake, (tenant, job_id))

    @contextmanager
    def waiting(self, tenant: str, job_id: str) -> Iterator[asyncio.Event]:
        """What is set when the job may have ended."""
        event = asyncio.Event()
        events = self._waiting.setdefault((tenant, job_id), set())
        events.add(event)
        try:
            yield event
        finally:
            events.discard(event)
            if not events:
                self._waiting.pop((tenant, job_id), None)

    def _wake(self, key: Key) -> None:
        for event in self._waiting.get(key, ()):
            event.set()
