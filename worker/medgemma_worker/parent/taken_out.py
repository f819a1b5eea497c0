"""Taking a worker out, in order: it takes no further message, and does what it has in hand.

Nothing of kombu's is cancelled, since a consumer starts anew with each connection. The board says
that the worker was taken out, and then its queues' order names none (``parent.lanes``): nothing is
asked for, whatever becomes of the connection or of the child.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from celery.worker import state

from medgemma_tasks.errors import BrokerUnreachable
from medgemma_tasks.live import LiveState
from medgemma_tasks.orders import keep, ordered
from medgemma_worker.board import Board
from medgemma_worker.parent.lease import channel_of, unacknowledged
from medgemma_worker.parent.repeated import Repeated
from medgemma_worker.post import post_of

log = logging.getLogger(__name__)

LOOK = 1.0
"""Seconds between two looks for an order."""

AWAY_PAUSE = 5.0
"""Seconds without a look after one that Redis did not answer: each holds up the parent."""


class TakenOut(Repeated):
    """A step of the consumer: while it consumes, it looks whether it still should."""

    def begin(self, consumer: Any) -> tuple[float, Callable[[], None]]:
        app = consumer.app
        post = post_of(os.environ, app.board.owner)
        orders = Orders(app.board, app.live, consumer.hostname, post)
        look = partial(orders.look, partial(holds, consumer))
        look()  # now, before the queue is asked for the first time
        return LOOK, look


class Orders:
    """What a worker of this name and post was told. ``look`` never raises."""

    def __init__(self, board: Board, live: LiveState, name: str, post: str) -> None:
        self._board = board
        self._live = live
        self._name = name
        self._post = post
        self._not_before = 0.0

    def look(self, holds: Callable[[], bool]) -> None:
        """Take messages, or take none; ``holds``: whether any is held here."""
        if time.monotonic() >= self._not_before:
            self._obey()
        self._board.note_emptied(self._board.taken_out and not holds())

    def _obey(self) -> None:
        board, model = self._board, self._live.settings.model
        try:
            with self._live.connected() as redis:
                out = ordered(redis, model, self._name, self._post)
                if out is None and not board.taken_out:
                    return
                if out is not False:
                    keep(redis, model, self._name, self._post)
        except BrokerUnreachable:
            self._not_before = time.monotonic() + AWAY_PAUSE
            return
        out = out is not False
        if out != board.taken_out:
            board.take_out(out)
            log.info("no further message is taken here" if out else "messages are taken again here")


def holds(consumer: Any) -> bool:
    """Whether a worker has a message, or may have one on its way: it had asked for the next."""
    board, channel = consumer.app.board, channel_of(consumer)
    if board.busy or state.reserved_requests:
        return True
    return channel is not None and bool(channel._in_poll or unacknowledged(channel))
