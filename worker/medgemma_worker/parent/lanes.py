"""Which queue goes first: in a fleet of two or more, one worker serves the batch queue first.

Interactive jobs go first, in strict order, so under a steady load of them no batch job would ever
be started. One worker of each model therefore turns the order round, and takes no guests into its
batch shards. Which one, a lock in Redis says; it lapses by itself, so that another follows a worker
that died. A worker that is alone goes back to interactive jobs first.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

from kombu.utils.scheduling import priority_cycle

from medgemma_tasks.errors import BrokerUnreachable
from medgemma_tasks.in_hand import interval, settled_after
from medgemma_tasks.layout import model_slug
from medgemma_tasks.live import LiveState
from medgemma_tasks.workers import workers
from medgemma_worker.board import Board
from medgemma_worker.parent.repeated import Repeated

log = logging.getLogger(__name__)

FLEET = 2
"""Workers of a model that serve, from which on one of them serves the batch queue first."""


def order_by(board: Board) -> type[priority_cycle[str]]:
    """The order in which kombu asks a worker's queues: interactive first, or, where the board says
    so, batch first. A worker that was taken out asks none."""

    class Order(priority_cycle):  # type: ignore[type-arg]  # its class takes none
        def consume(self, n: int) -> Any:
            if board.taken_out:
                return []
            queues: Any = super().consume(n)
            return queues[::-1] if board.bulk_first else queues

    return Order


class Lanes(Repeated):
    """A step of the consumer: while it consumes, it may be the one that serves batch jobs first."""

    def begin(self, consumer: Any) -> tuple[float, Callable[[], None]]:
        app = consumer.app
        lane = Lane(app.board, app.live, consumer.hostname)
        return interval(app.live.settings.visibility_timeout), lane.look


class Lane:
    """Which queue a worker of this name serves first. ``look`` never raises."""

    def __init__(self, board: Board, live: LiveState, name: str) -> None:
        self._board = board
        self._live = live
        self._name = name
        self._model = live.settings.model
        self._lock = f"bulk-first:{model_slug(self._model)}"
        self._seconds = math.ceil(settled_after(live.settings.visibility_timeout))

    def look(self) -> None:
        """Take the lock, hold it, or let it go; and say on the board which it was."""
        try:
            first = self._is_ours()
        except BrokerUnreachable:
            first = False  # by the time Redis is back it may be another's
        if first != self._board.bulk_first:
            self._board.put_bulk_first(first)
            log.info("%s jobs go first here from now on", "batch" if first else "interactive")

    def _is_ours(self) -> bool:
        live, lock, token = self._live, self._lock, self._board.owner
        # The lock first: to count the fleet is to scan Redis, and only its holder does.
        ours = live.lock(lock, token, self._seconds) or live.extend(lock, token, self._seconds)
        if ours and not self._one_of_several():
            live.unlock(lock, token)
            return False
        return ours

    def _one_of_several(self) -> bool:
        with self._live.connected() as redis:
            team = [worker for worker in workers(redis) if worker.model == self._model]
        serving = {worker.name for worker in team if worker.state.serves}
        return self._name in serving and len(serving) >= FLEET
