"""A message in hand: the jobs of its shard, and what becomes of the message in the end."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Protocol

from medgemma_tasks.errors import StoreRefused
from medgemma_tasks.queue import Shard
from medgemma_worker.failures import trace
from medgemma_worker.wrappers.commit import TROUBLE
from medgemma_worker.wrappers.held import RunsElsewhere

log = logging.getLogger(__name__)

PAUSE = 2.0
"""Seconds before a shard goes back to the queue because a part around us is away."""

REFUSED_PAUSE = 15.0
"""The same where the store says no: a person must mend that, or keys are being changed."""

PutBack = Callable[[str], None]
"""Puts one job of a shard, by its id, on the queue that the shard came from."""


class Runner(Protocol):
    """What runs a job to its mark: ``medgemma_worker.job.JobRunner``."""

    def run(self, job_id: str) -> None: ...
    def finished(self, job_id: str) -> bool: ...
    def died(self, job_id: str) -> bool: ...


class Delivery:
    """A message that a worker has in hand, and how far its jobs are."""

    def __init__(self, shard: Shard, runner: Runner, put_back: PutBack) -> None:
        self._runner = runner
        self._put_back = put_back
        self.jobs = tuple(dict.fromkeys(shard.jobs))
        self.waiting = deque(self.jobs)
        """Have not been begun."""
        self.open: set[str] = set()
        """Have a thread."""
        self.context = copy_context()
        """What its jobs run in, each in a copy: of the message's span, if there are traces."""
        self.pauses: list[float] = []
        """For each job that must come again, how many seconds it had better wait."""

    @property
    def under_way(self) -> bool:
        return bool(self.waiting or self.open)

    def split(self) -> None:
        """A shard that comes back after a process died over it comes apart: each job that has not
        ended becomes a message of its own, so that the one to blame takes no other along again."""
        died = False
        if len(self.jobs) > 1:
            with self.coming_again("a shard"):
                died = any(map(self._runner.died, self.jobs))
        if self.pauses:
            self.waiting.clear()
        if not died:
            return
        while self.waiting:
            job_id = self.waiting.popleft()
            with self.coming_again(f"job {job_id}"):
                if not self._runner.finished(job_id):
                    self._put_back(job_id)
        log.warning("a shard of %d jobs was split after a death", len(self.jobs))

    def run(self, job_id: str) -> None:
        """Run one of its jobs; to be called in a thread. Never raises."""
        with self.coming_again(f"job {job_id}"):
            self._runner.run(job_id)

    def leave(self) -> None:
        """Begin no more of its jobs: the message comes again for them."""
        if self.waiting:
            self.waiting.clear()
            self.pauses.append(0.0)

    @contextmanager
    def coming_again(self, what: str) -> Iterator[None]:
        """What raises within is tried again with the whole message; adds the pause before that."""
        try:
            yield
        except TROUBLE as error:
            log.warning(
                "%s: goes back to the queue (%s)", what, error.code, extra={"code": error.code}
            )
            self.pauses.append(REFUSED_PAUSE if isinstance(error, StoreRefused) else PAUSE)
        except RunsElsewhere:
            log.info("%s: runs on another worker, looked at again", what)
            self.pauses.append(PAUSE)
        except Exception as error:  # noqa: BLE001 - a message must never be lost to a defect
            log.error("%s: goes back to the queue\n%s", what, trace(error))
            self.pauses.append(PAUSE)
