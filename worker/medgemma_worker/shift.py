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

GATHERING = 1.0
"""Seconds for which those that could be answered wait for others that are still fetching."""

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
        fresh = sum(1 for job in delivery.open if not self._device.has_explained(job))
        while delivery.waiting and fresh < room and len(delivery.open) < room + STORING:
            if self._guest is not None and delivery.waiting[0] in self._guest.delivery.open:
                return  # the same question: it will be found finished
            self._begin(delivery)
            fresh += 1

    def _begin(self, delivery: Delivery) -> None:
        job_id, device = delivery.waiting.popleft(), self._device

        def run() -> None:
            try:
                delivery.run(job_id)
            finally:
                with device.changed:
                    delivery.open.discard(job_id)
                    device.forget(job_id)
                    device.changed.notify_all()

        delivery.open.add(job_id)
        self._pool.submit(run)

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
        if not whole and fetching and time.monotonic() < batch[0].since + GATHERING:
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
            self._begin(guest)
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


def _of(delivery: Delivery, line: list[Wanted]) -> list[Wanted]:
    return [wanted for wanted in line if wanted.run.job_id in delivery.jobs]
