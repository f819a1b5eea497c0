"""Writing down what is known when a child dies over a job. The parent does, before the message goes
back to the queue: whoever takes it next may be the one who gives the job up."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from celery.exceptions import WorkerLostError
from celery.worker.request import Request

from medgemma_tasks.errors import BrokerUnreachable
from medgemma_tasks.in_hand import shard_of
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import Death, Stage
from medgemma_worker.board import Board
from medgemma_worker.parent.hosted import give_back, hosted_by
from medgemma_worker.places import InHand
from medgemma_worker.wrappers.held import let_go

log = logging.getLogger(__name__)

_SIGNAL = re.compile(r"signal \d+ \((SIG[A-Z0-9]+)\)")
_STATUS = re.compile(r"exitcode (-?\d+)")


class WatchedRequest(Request):
    """A message in the parent's hands, as Celery has it, that tells of its child's death."""

    def on_failure(self, exc_info: Any, *args: Any, **options: Any) -> Any:
        error = getattr(exc_info.exception, "exc", exc_info.exception)
        if isinstance(error, WorkerLostError):
            self._note(str(error), "died")
        return super().on_failure(exc_info, *args, **options)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        if not soft:
            self._note("", "time_limit")
        super().on_timeout(soft, timeout)

    def _note(self, message: str, reason: Any) -> None:
        app: Any = self.app
        child: Any = self.worker_pid
        guest = hosted_by(app.board, child)
        died_over = {*shard_of(self.message.payload).jobs, *(guest.jobs if guest else ())}
        # After a reconnection a second message may be here: of its jobs this is no death.
        jobs = [held for held in app.board.in_hand if held.job_id in died_over]
        note_deaths(app.board, app.live, jobs, self.hostname, message, reason)
        if guest is not None:
            give_back(app.board, app.live, guest)


def note_deaths(
    board: Board,
    live: LiveState,
    jobs: Sequence[InHand],
    worker: str,
    message: str,
    reason: Any,
) -> None:
    """Keep what the board and billiard's message say of a death, for each job that was in hand:
    which of them is to blame is not known. Never raises."""
    memory = board.memory or None
    signal, status = _SIGNAL.search(message), _STATUS.search(message)
    board.clear(jobs)
    for held in jobs:
        death = Death(
            attempt=held.attempt,
            at=datetime.now(UTC),
            worker=worker,
            signal=None if signal is None else signal[1],
            exit_status=None if status is None else int(status[1]),
            reason=reason,
            stage=None if held.stage is None else Stage(held.stage),
            memory_bytes=memory,
        )
        let_go(board, live, held)
        log.error(
            "job %s: the process died over attempt %d (%s)",
            *(held.job_id, held.attempt, death.signal or death.exit_status or reason),
            extra={"job": held.job_id, "attempt": held.attempt, "stage": held.stage},
        )
        try:
            live.of_tenant(held.tenant).note_death(held.job_id, death)
        except BrokerUnreachable as error:
            log.warning("job %s: its death is not written down (%s)", held.job_id, error.code)
