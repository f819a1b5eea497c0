"""Ending a worker: its running job first, and with a status that says how it went.

Celery's soft shutdown sleeps through its whole grace, whether or not the job ended, and renews
nothing meanwhile. Here the child says on its board whether it has a shard in hand.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from celery import Celery

from medgemma_tasks.errors import BrokerUnreachable
from medgemma_tasks.live import LiveState
from medgemma_worker.board import Board
from medgemma_worker.exits import LOAD_FAILED
from medgemma_worker.parent import hosted
from medgemma_worker.parent.lease import LONGEST_INTERVAL, renew
from medgemma_worker.parent.running import say
from medgemma_worker.wrappers.attempt import give_back
from medgemma_worker.wrappers.held import keep, let_go

POLL = 0.1
"""Seconds between two looks at whether the child has ended its shard."""

SETTLE = 0.2
"""Seconds for the child's last word to be under way to the parent."""


def install(app: Celery, board: Board) -> None:
    """Give the app a worker that ends as this module says."""
    base: Any = app.Worker

    class Worker(base):  # type: ignore[misc]
        def wait_for_soft_shutdown(self) -> None:
            wait_until_idle(board, self.consumer, app.conf.worker_soft_shutdown_timeout)

        def start(self) -> None:
            super().start()
            app.voice.leave(self.hostname)  # type: ignore[attr-defined]
            # worker_main() would drop either; the second is set where its event loop crashed.
            if board.failed:
                raise SystemExit(LOAD_FAILED)
            if self.exitcode:
                raise SystemExit(1)

    app.Worker = Worker  # type: ignore[misc]


def wait_until_idle(board: Board, consumer: Any, grace: float) -> None:
    """Wait for the child's shard, at most ``grace`` seconds, holding its lease meanwhile.

    This runs in a signal handler, so the event loop, which renews otherwise, stands still.
    """
    now = time.monotonic()
    deadline, interval = now + grace, LONGEST_INTERVAL / 10
    renewal = now + interval
    consumer.app.voice.stopping()
    board.drain()
    while board.busy and time.monotonic() < deadline:
        time.sleep(POLL)
        consumer.app.voice.look()
        if time.monotonic() >= renewal:
            renew(consumer)
            say(consumer)
            _keep(board, consumer.app.live)
            renewal += interval
    _give_back(board, consumer.app.live)
    time.sleep(SETTLE)
    _give_back(board, consumer.app.live)  # meanwhile it may have begun with another of its shard


def _give_back(board: Board, live: LiveState) -> None:
    if not board.busy:
        return
    jobs = board.in_hand
    for held in jobs:
        # It is killed now, through no fault of its own.
        give_back(live.of_tenant(held.tenant), held.job_id, held.token)
        let_go(board, live, held)
    board.clear(jobs)
    _give_back_guest(board, live)


def _give_back_guest(board: Board, live: LiveState) -> None:
    guest = hosted.hosted_by(board, board.pid)
    if guest is not None:
        hosted.give_back(board, live, guest)


def _keep(board: Board, live: LiveState) -> None:
    with suppress(BrokerUnreachable):
        keep(board, live, board.in_hand)
