"""The clients: they ask what they shall, at its time, and do not give up over a part that is away.

They go through the proxies, so what is done to Redis and S3 is done to them too.
"""

from __future__ import annotations

import heapq
import io
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cached_property, partial
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from medgemma_client.client import Client
from medgemma_tasks.errors import ServiceError
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import State
from medgemma_tasks.queue import make_app, publish
from medgemma_tasks.settings import Settings
from medgemma_tasks.store import Store
from tests.faults.chaos.asks import Ask, Asked, Batch, Kind
from tests.parts import picture, reference, request_for

if TYPE_CHECKING:
    from celery import Celery

PAUSE = 0.5
"""Seconds after a call that failed, or a look that found nothing, until the next."""

T = TypeVar("T")
Work = Callable[["_One"], None]


class Asker:
    """Some threads, each a client. A context: they begin with it, and end with it at the latest."""

    def __init__(self, settings: Settings, batches: Sequence[Batch], threads: int = 3) -> None:
        self.settings = settings
        self.asked: dict[str, Asked] = {}
        self.failures: Counter[str] = Counter()
        """What clients were told, by code."""
        self.defects: list[str] = []
        """What no client may ever be told."""
        self.stopping = threading.Event()
        self._numbers = count()
        self._work: list[tuple[float, int, Work]] = []
        self._ready = threading.Condition()
        self._busy = 0
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        for batch in batches:
            self.later(batch.at, _shard(batch) if batch.shard else _one(batch.asks[0]))

    def later(self, seconds: float, work: Work) -> None:
        """Have something done so many seconds from now."""
        with self._ready:
            at = time.monotonic() + seconds
            heapq.heappush(self._work, (at, next(self._numbers), work))
            self._ready.notify()

    @property
    def done(self) -> bool:
        """Whether all was asked, and nobody comes back to it."""
        with self._ready:
            return not self._work and not self._busy

    def note(self, job_id: str, ask: Ask) -> Asked:
        return self.asked.setdefault(job_id, Asked(job_id, ask))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stopping.set()
        with self._ready:
            self._ready.notify_all()
        for thread in self._threads:
            thread.join(10.0)

    def _run(self) -> None:
        one = _One(self)
        while (work := self._next()) is not None:
            try:
                work(one)
            except _Stopped:
                return
            except Exception as error:  # noqa: BLE001 - it is what the run is there to find
                self.defects.append(f"{type(error).__name__}: {error}")
            finally:
                with self._ready:
                    self._busy -= 1

    def _next(self) -> Work | None:
        with self._ready:
            while not self.stopping.is_set():
                left = self._work[0][0] - time.monotonic() if self._work else 1.0
                if left <= 0:
                    self._busy += 1
                    return heapq.heappop(self._work)[2]
                self._ready.wait(left)
        return None


class _One:
    """One client, of one thread."""

    def __init__(self, asker: Asker) -> None:
        self.asker = asker
        self.client = Client(asker.settings)
        self.live = LiveState(asker.settings)
        self.ledger = Ledger(Store(asker.settings), self.live)

    @cached_property
    def app(self) -> Celery:
        return make_app(self.asker.settings)

    def stubbornly(self, action: Callable[[], T]) -> T:
        """Again and again, as a caller does who wants it done."""
        while not self.asker.stopping.is_set():
            try:
                return action()
            except ServiceError as error:
                self.asker.failures[error.code] += 1
            self.asker.stopping.wait(PAUSE)
        raise _Stopped

    def ask(self, ask: Ask) -> Asked:
        job = self.stubbornly(lambda: self.client.submit(picture(), ask.prompt))
        return self.asker.note(job.id, ask)


def _one(ask: Ask) -> Work:
    def work(one: _One) -> None:
        asked = one.ask(ask)
        if ask.kind in (Kind.CANCELLED, Kind.CANCELLED_AGAIN):
            one.asker.later(ask.later, partial(_cancel, asked=asked))
        elif ask.kind in (Kind.QUICK_AGAIN, Kind.CRASH_AGAIN):
            one.asker.later(ask.later, partial(_again, asked=asked))

    return work


def _cancel(one: _One, asked: Asked) -> None:
    job = one.client.job
    asked.cancelled = one.stubbornly(lambda: job(asked.job_id).cancel())
    if asked.ask.kind is Kind.CANCELLED_AGAIN:
        one.asker.later(PAUSE, partial(_again, asked=asked))


def _again(one: _One, asked: Asked) -> None:
    """Ask the same again; what is to be put back, once it has ended."""
    if asked.ask.kind is not Kind.QUICK_AGAIN:
        mark = one.stubbornly(lambda: one.ledger.record(asked.job_id))
        if mark is None:
            one.asker.later(PAUSE, partial(_again, asked=asked))
            return
        asked.put_back = mark.state is not State.SUCCEEDED
    if one.ask(asked.ask) is not asked:
        one.asker.defects.append(f"job {asked.job_id} became another when it was asked again")


def _shard(batch: Batch) -> Work:
    """Requests, then one message for all of them."""

    def work(one: _One) -> None:
        image, png = picture(), io.BytesIO()
        image.save(png, "PNG")
        one.stubbornly(lambda: one.ledger.put_input(reference(image), png.getvalue()))
        jobs = []
        for ask in batch.asks:
            now = datetime.now(UTC)
            request = request_for(ask.prompt).model_copy(update={"submitted_at": now})
            one.stubbornly(partial(one.ledger.put_request, request))
            one.asker.note(request.job_id, ask)
            jobs.append(request.job_id)
        settings = one.asker.settings
        one.stubbornly(lambda: publish(one.app, settings, settings.model, jobs, batch=True))
        one.stubbornly(lambda: one.live.mark_queued(jobs))

    return work


class _Stopped(Exception):
    """The run ends before this was done."""
