"""Guests on a device: each an interactive message, from its arrival to its leave."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack

from medgemma_tasks.jitter import jittered
from medgemma_tasks.queue import Shard
from medgemma_tasks.tracing import following
from medgemma_worker.board import Board
from medgemma_worker.delivery import Delivery
from medgemma_worker.guests import Guest, Guests


class Visit:
    """A guest that is here. The board names it, so that its lease is renewed, until it leaves."""

    def __init__(self, guest: Guest, delivery: Delivery, board: Board) -> None:
        self._guest = guest
        self.delivery = delivery
        self._hosted = ExitStack()
        self._hosted.enter_context(board.hosting(guest.tag, guest.shard.jobs))

    def leave(self) -> None:
        """Its jobs have their marks, or it is to come again. Never raises."""
        if self.delivery.pauses:
            self._guest.give_back()
        else:
            self._guest.done()
        self._hosted.close()


class Visits:
    """Lets guests in, unless this worker serves bulk first, was taken out or told to stop."""

    def __init__(self, guests: Guests, board: Board, deliver: Callable[[Shard], Delivery]) -> None:
        self._guests = guests
        self._board = board
        self._deliver = deliver
        self._last: Delivery | None = None
        self._not_before = 0.0

    def next(self) -> Visit | None:
        """The next guest, if one waits. Never raises."""
        if self._last is not None and self._last.pauses:
            # It was given back, and stands first on its queue.
            self._not_before = time.monotonic() + jittered(max(self._last.pauses))
        self._last = None
        board = self._board
        closed = board.bulk_first or board.taken_out or board.draining
        if closed or time.monotonic() < self._not_before:
            return None
        guest = self._guests.take()
        if guest is None:
            return None
        self._last = self._deliver(guest.shard)
        self._last.context = following(guest.sent_in)
        visit = Visit(guest, self._last, self._board)
        self._last.split()
        return visit
