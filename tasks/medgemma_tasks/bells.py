"""What wakes those who wait for jobs: a message in Redis when one has ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from medgemma_tasks.connection import Connected

if TYPE_CHECKING:
    from redis.client import PubSub


class Bell:
    """Rings when a job ends. It may ring for nothing, and may fail to ring: always look."""

    def __init__(self, connected: Connected, pubsub: PubSub) -> None:
        self._connected = connected
        self._pubsub = pubsub

    def wait(self, seconds: float) -> bool:
        """Wait for the bell, at most so long; whether it rang."""
        deadline = time.monotonic() + seconds
        with self._connected._reached():
            while (left := deadline - time.monotonic()) > 0:
                if self._pubsub.get_message(timeout=left) is not None:
                    return True
        return False


class Bells:
    """Say which jobs ended. As ``Bell``: they may ring for nothing, or fail to."""

    def __init__(self, connected: Connected, pubsub: PubSub) -> None:
        self._connected = connected
        self._pubsub = pubsub

    def rung(self, seconds: float) -> list[str]:
        """The ids of jobs that ended; waits at most so long for the first of them."""
        return [job_id for _, job_id in self.rung_for(seconds)]

    def rung_for(self, seconds: float) -> list[tuple[str, str]]:
        """The same, each with its tenant."""
        found: list[tuple[str, str]] = []
        deadline = time.monotonic() + seconds
        with self._connected._reached():
            while (left := deadline - time.monotonic()) > 0:
                message = self._pubsub.get_message(timeout=0 if found else left)
                if message is not None:
                    _, _, tenant, job_id = str(message["channel"]).split(":", 3)
                    found.append((tenant, job_id))
                elif found:
                    break
        return found
