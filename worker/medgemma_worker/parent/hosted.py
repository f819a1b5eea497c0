"""The parent's part for a guest of its child: see ``medgemma_worker.guests``.

The child took the message by itself, so that no channel of the parent's knows it.
"""

from __future__ import annotations

import logging

from medgemma_tasks.errors import BrokerUnreachable
from medgemma_tasks.live import LiveState
from medgemma_worker import unacked
from medgemma_worker.board import Board
from medgemma_worker.places import Hosted

log = logging.getLogger(__name__)


def hosted_by(board: Board, pid: int | None) -> Hosted | None:
    """The guest of the child that has this process id, if it has or died over one. None for that
    of its predecessor or successor: deaths are told of late."""
    guest = board.guest
    return guest if guest is not None and guest.pid == pid else None


def give_back(board: Board, live: LiveState, guest: Hosted) -> None:
    """Put the guest of a child that is dead, or will be, on its queue at once. Never raises:
    nobody renews its lease from now on, so it comes back all the same."""
    board.clear_guest()
    try:
        with live.connected() as redis:
            unacked.give_back(redis, guest.tag)
    except BrokerUnreachable as error:
        log.warning("a guest comes back only when its lease lapses (%s)", error.code)
