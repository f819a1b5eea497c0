"""A worker alone looks after the process beside it, which reconciles: nobody else would."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from medgemma_worker.parent.repeated import Repeated

LOOK = 2.0
"""Seconds between two looks, and so at least between two starts."""


class Tended(Repeated):
    """A step of the consumer: while it consumes, what was killed beside it is started again."""

    def begin(self, consumer: Any) -> tuple[float, Callable[[], None]]:
        return LOOK, consumer.app.beside.tend
