"""Waiting: for a service that is away, for room; and being told to stop meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Condition, Event
from typing import TypeVar

from medgemma_tasks.errors import BrokerUnreachable, StoreUnreachable
from medgemma_tasks.jitter import jittered

AWAY = (BrokerUnreachable, StoreUnreachable)
"""What passes by itself, as a rule."""
PATIENCE = 600.0
"""Seconds for which a service may be away before a run ends over it."""
FIRST_PAUSE, LAST_PAUSE, BACK_OFF = 0.5, 10.0, 1.5
"""Seconds between two tries: at first, and after a while; by how much each is longer."""

T = TypeVar("T")


class StoppedError(Exception):
    """The run ends; nobody waits for what this thread does."""


def patiently(action: Callable[[], T], stop: Event) -> T:
    """What an action gives, tried again for as long as its service is away, within PATIENCE."""
    deadline = time.monotonic() + PATIENCE
    pause = FIRST_PAUSE
    while True:
        if stop.is_set():
            raise StoppedError
        try:
            return action()
        except AWAY:
            if time.monotonic() + pause > deadline:
                raise
        stop.wait(jittered(pause))
        pause = min(pause * BACK_OFF, LAST_PAUSE)


class Away:
    """For how long a service has been away, of which several threads ask again and again."""

    def __init__(self) -> None:
        self._since: float | None = None

    def answers(self) -> None:
        """It is there."""
        self._since = None

    def bear(self, error: Exception) -> None:
        """It is away; raises the error where it has been for PATIENCE."""
        now, since = time.monotonic(), self._since  # once: another thread may be answered meanwhile
        if since is None:
            self._since = now
        elif now - since > PATIENCE:
            raise error


class Room:
    """So many things at a time, and so many bytes; one that has more bytes is alone."""

    def __init__(self, things: int, size: int | None = None) -> None:
        self._most, self._most_bytes = things, size
        self._things = self._bytes = 0
        self._less = Condition()
        self._open = False

    def take(self, size: int = 0) -> None:
        """Wait for room. Raises StoppedError once it was opened."""
        with self._less:
            self._less.wait_for(lambda: self._open or self._fits(size))
            if self._open:
                raise StoppedError
            self._things += 1
            self._bytes += size

    def give(self, size: int = 0, things: int = 1) -> None:
        """Some things, with so many bytes in all, are no longer there."""
        with self._less:
            self._things -= things
            self._bytes -= size
            self._less.notify_all()

    def open(self) -> None:
        """Let nobody wait any longer."""
        with self._less:
            self._open = True
            self._less.notify_all()

    def _fits(self, size: int) -> bool:
        if self._things >= self._most:
            return False
        return (
            self._most_bytes is None or not self._things or self._bytes + size <= self._most_bytes
        )
