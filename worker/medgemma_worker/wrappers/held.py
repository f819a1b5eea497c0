"""One worker at a time runs a job, as long as it says that it lives.

A message may be delivered twice while its job runs: a connection was reset, a lease lapsed. The
second worker would compute the same again, and count a start; a few of those, and a healthy job
would be given up as one that kills its workers. So who runs a job says so in Redis, again and
again. It is no lock that anything rests on: if Redis forgets it a job runs twice, and commits once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress

from medgemma_tasks.errors import BrokerUnreachable
from medgemma_tasks.in_hand import settled_after
from medgemma_tasks.live import LiveState
from medgemma_worker.board import Board
from medgemma_worker.engine import Explained
from medgemma_worker.places import InHand
from medgemma_worker.wrappers.run import Run, Step

log = logging.getLogger(__name__)


class RunsElsewhere(Exception):
    """Another worker, that lives, runs the job: the message is to come again."""


def held_here(run: Run, step: Step) -> Explained:
    """A wrapper: nobody else runs the job meanwhile. Raises RunsElsewhere."""
    live, owner = run.around.live, run.around.board.owner
    if not live.hold(run.job_id, owner, settled_after(live.settings.visibility_timeout)):
        raise RunsElsewhere
    try:
        return step(run)
    finally:
        with suppress(BrokerUnreachable):
            live.let_go(run.job_id, owner)


def keep(board: Board, live: LiveState, jobs: Sequence[InHand]) -> None:
    """The parent's part: say again that its child's jobs are held. Raises BrokerUnreachable."""
    seconds = settled_after(live.settings.visibility_timeout)
    for tenant, job_ids in by_tenant(jobs).items():
        live.of_tenant(tenant).hold_all(job_ids, board.owner, seconds)


def by_tenant(jobs: Iterable[InHand]) -> dict[str, list[str]]:
    """The ids of jobs in hand, by whose they are."""
    found: dict[str, list[str]] = {}
    for held in jobs:
        found.setdefault(held.tenant, []).append(held.job_id)
    return found


def let_go(board: Board, live: LiveState, held: InHand) -> None:
    """The parent's part for a child that is dead. Never raises: it lapses by itself."""
    with suppress(BrokerUnreachable):
        live.of_tenant(held.tenant).let_go(held.job_id, board.owner)
