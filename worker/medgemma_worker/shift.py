"""The jobs of a message side by side, each in a thread of its own, and one device for all.

While the device answers some and explains one, others fetch their images, and those that are
explained are painted and stored. Between two steps a guest may come in: an interactive job, which
has the device to itself until it is explained.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Protocol

from celery.exceptions import SoftTimeLimitExceeded

from medgemma_tasks.errors import JobTimeLimit
from medgemma_worker.delivery import Delivery
from medgemma_worker.device import Device, Wanted
from medgemma_worker.failures import TOO_LONG

STORING = 16
"""Jobs, besides those of two batches, whose threads may still store what was found."""

FETCHING = 4
"""Jobs that fetch their images at once: as many as the store is asked for at once."""

FIRST_FETCHING = 2
"""The same until one of them is ready. Many workers may begin at the same moment, and what they
all fetch for later keeps each of them from its first step."""

GATHERING = 1.0
"""Seconds for which those that could be answered wait for others that are still fetching."""

NEWCOMER = 0.25
"""Seconds without one that has fetched, after which no further one is waited for."""

COURTESY = 1.0
"""Seconds for which the device waits for a guest that is on its way to the next step."""

LOOK = 0.05
"""Seconds between two looks for a guest while the device has nothing to do."""


class Guest(Protocol):
    """An interactive message, taken between two steps."""

    @property
    def delivery(self) -> Delivery: ...

    def leave(self) -> None:
        """Its jobs have their marks, or it is to come again. Never raises."""


class Shift:
    """Runs the jobs of a message, and of its guests, on the device that this thread has.

    draining: whether no further job is to be begun. next_guest: takes one that waits, or None.
    """

    def __init__(
        self,
        device: Device,
        pool: Executor,
        *,
        draining: Callable[[], bool],
        next_guest: Callable[[], Guest | None],
    ) -> None:
        self._device = device
        self._pool = pool
        self._draining = draining
        self._next_guest = next_guest
        self._fetching: set[str] = set()
        """Jobs that had their turn to fetch, as long as they are open."""
        self._guest: Guest | None = None
        self._came = 0.0
        """When the guest did, or had its last step, on the monotonic clock."""

    def serve(self, delivery: Delivery) -> None:
        """Run all jobs of a message to their marks, or until they must come again."""
        while delivery.under_way or self._guest is not None:
            try:
                if self._draining():
                    delivery.leave()
                self._open(delivery)
                if not self._serve_guest(delivery) and not self._serve(delivery):
                    self._wait()
            except SoftTimeLimitExceeded:
                # It fell between two steps: what waits for one is too late.
                delivery.leave()
                self._device.drop(JobTimeLimit(TOO_LONG))

    def _wait(self) -> None:
        with self._device.changed:
            self._device.changed.wait(LOOK)

    # --- the message ---------------------------------------------------------------------------

    def _open(self, delivery: Delivery) -> None:
        """Give jobs a thread: those of this batch and the next, and no more than can be stored."""
        room = 2 * self._device.batching.advised
        # Of a copy: their threads take jobs out as they end.
        fresh = sum(1 for job in [*delivery.open] if not self._device.has_explained(job))
        while delivery.waiting and fresh < room and len(delivery.open) < room + STORING:
            if self._guest is not None and delivery.waiting[0] in self._guest.delivery.open:
                return  # the same question: it will be found finished
            self._begin(delivery, self._turn)
            fresh += 1

    def _begin(self, delivery: Delivery, turn: Callable[[Delivery, str], None]) -> None:
        job_id, device = delivery.waiting.popleft(), self._device

        def run() -> None:
            try:
                turn(delivery, job_id)
                delivery.run(job_id)
            finally:
                with device.changed:
                    delivery.open.discard(job_id)
                    self._fetching.discard(job_id)
                    device.forget(job_id)
                    device.changed.notify_all()

        delivery.open.add(job_id)
        self._pool.submit(delivery.context.copy().run, run)

    def _turn(self, delivery: Delivery, job_id: str) -> None:
        """Wait, in the job's thread, until few enough others fetch."""
        device = self._device

        def few() -> bool:
            begun = any(map(device.has_asked, delivery.jobs))
            fetching = sum(1 for job in self._fetching if not device.has_asked(job))
            return fetching < (FETCHING if begun else FIRST_FETCHING)

        with device.changed:
            device.changed.wait_for(few)
            self._fetching.add(job_id)

    def _serve(self, delivery: Delivery) -> bool:
        """Give the device the message's next step; False where none is ready."""
        device = self._device
        with device.changed:
            explaining, answering = list(device.explaining), list(device.answering)
            fetching = sum(1 for job in delivery.open if not device.has_asked(job))
        if explaining:
            device.explain_next(device.explained_together(explaining))
            return True
        batch = device.answered_together(answering)
        if not batch:
            return False
        whole = len(batch) < len(answering) or len(batch) >= device.batching.advised
        if not whole and fetching:
            now, newest = time.monotonic(), max(wanted.since for wanted in answering)
            if now < min(batch[0].since + GATHERING, newest + NEWCOMER):
                return False
        device.answer_next(batch)
        return True

    # --- the guest -----------------------------------------------------------------------------

    def _serve_guest(self, delivery: Delivery) -> bool:
        """Whether the device is a guest's for now."""
        if self._guest is None:
            self._guest = None if self._draining() else self._next_guest()
            self._came = time.monotonic()
        if self._guest is None:
            return False
        guest, device = self._guest.delivery, self._device
        while guest.waiting and guest.waiting[0] not in delivery.open:
            self._begin(guest, _at_once)
        with device.changed:
            explaining, answering = _of(guest, device.explaining), _of(guest, device.answering)
            computing = any(not device.has_explained(job) for job in guest.open)
        if explaining or answering:
            if explaining:
                device.explain_next(explaining[:1])
            else:
                device.answer_next(answering[:1])
            self._came = time.monotonic()
            return True
        if not guest.under_way:
            self._guest.leave()
            self._guest = None
            return True
        if not computing or time.monotonic() > self._came + COURTESY:
            return False
        self._wait()
        return True


def _at_once(delivery: Delivery, job_id: str) -> None:
    """A guest waits for nobody."""


def _of(delivery: Delivery, line: list[Wanted]) -> list[Wanted]:
    return [wanted for wanted in line if wanted.run.job_id in delivery.jobs]
