"""What the parent does again and again while it consumes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import bootsteps


class Repeated(bootsteps.StartStopStep):
    """A step of the consumer, which starts anew after each loss of the connection."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._entry: Any = None

    def begin(self, consumer: Any) -> tuple[float, Callable[[], None]]:
        """Seconds between two times, and what to do. It must not raise, nor take long: the
        parent's event loop waits for it."""
        raise NotImplementedError

    def start(self, consumer: Any) -> None:
        pause, action = self.begin(consumer)
        self._entry = consumer.timer.call_repeatedly(pause, action)

    def stop(self, consumer: Any) -> None:
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None

    shutdown = stop
