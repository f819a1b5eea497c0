"""The fleet's metrics, for Prometheus and for whoever scales by them."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from medgemma_tasks.backlog import queue_of
from medgemma_tasks.census import KINDS
from medgemma_tasks.dropped import NO_REQUEST
from medgemma_tasks.errors import MedGemmaError
from medgemma_tasks.models import WorkerState
from medgemma_tasks.queue import queue_names
from medgemma_worker.exporter.looking import Looker, Seen, age

if TYPE_CHECKING:
    from prometheus_client import Metric

log = logging.getLogger(__name__)

PART = 10.0
"""A look holds for as many times as long as it took: with a hundred thousand messages it takes
seconds, and neither Redis nor this process is to be busy with it all the time."""


class Fleet:
    """What Prometheus asks, at each scrape. Where Redis does not answer it says so, and nothing
    else: a number from before could hold a fleet at a size that nobody wants."""

    def __init__(self, looker: Looker) -> None:
        self._looker = looker
        self._looking = threading.Lock()
        self._seen: Seen | None = None
        self._good_until = 0.0
        self._well = True

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily

        seen = self._look()
        yield GaugeMetricFamily(
            "medgemma_exporter_up",
            "1 where Redis answered; else 0, and nothing else is told.",
            value=float(seen is not None),
        )
        yield GaugeMetricFamily(
            "medgemma_exporter_store_up",
            "1 where the store answered, which knows how old a job is; else 0.",
            value=float(seen is not None and seen.store),
        )
        if seen is not None:
            yield from _of_jobs(seen)
            yield from _of_workers(seen)

    def _look(self) -> Seen | None:
        with self._looking:
            began = time.monotonic()
            if began < self._good_until:
                return self._seen
            try:
                self._seen = self._looker.look()
            except MedGemmaError as error:
                self._note(error.code)
            except Exception as error:  # noqa: BLE001 - an endpoint that fails tells nobody why
                self._note(type(error).__name__)
            else:
                self._well = True
                ended = time.monotonic()
                self._good_until = ended + PART * (ended - began)
            return self._seen

    def _note(self, what: str) -> None:
        if self._well:
            log.warning("the fleet cannot be seen (%s)", what)
        self._seen, self._well = None, False


def _of_jobs(seen: Seen) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    queued = GaugeMetricFamily(
        "medgemma_queue_jobs", "Jobs that wait on a queue.", labels=["model", "queue"]
    )
    oldest = GaugeMetricFamily(
        "medgemma_queue_oldest_seconds",
        "Seconds since the job that is next was submitted; 0 where none waits.",
        labels=["model", "queue"],
    )
    running = GaugeMetricFamily(
        "medgemma_running_jobs",
        "Jobs in messages that a worker has, or had when it died.",
        labels=["model"],
    )
    pending = GaugeMetricFamily(
        "medgemma_pending_jobs", "Jobs that wait or run, each counted once.", labels=["model"]
    )
    for model, jobs in seen.jobs.items():
        for kind in KINDS:
            queued.add_metric([model, kind], len(jobs.queued[kind]))
            if kind not in jobs.first:
                oldest.add_metric([model, kind], 0.0)
            elif (model, kind) in seen.oldest:
                oldest.add_metric([model, kind], age(seen.oldest[model, kind]))
        running.add_metric([model], len(jobs.held))
        pending.add_metric([model], jobs.pending)
    yield from (queued, oldest, running, pending)


def _of_workers(seen: Seen) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    team = GaugeMetricFamily(
        "medgemma_workers", "Workers by their own word.", labels=["model", "state"]
    )
    found = Counter((worker.model, worker.state) for worker in seen.team)
    for model in seen.jobs:
        for state in WorkerState:
            team.add_metric([model, state.value], found[model, state])
    lost = CounterMetricFamily(
        "medgemma_dropped_messages",
        "Messages of a queue that held no jobs, and jobs that nobody submitted (no-request).",
        labels=["place"],
    )
    places = dict.fromkeys((NO_REQUEST, *(q for m in seen.jobs for q in queue_names(m))), 0)
    for place, number in seen.dropped.items():
        named = queue_of(place)
        if place in places or (named is not None and named[0] in seen.jobs):
            places[place] = number
    for place, number in places.items():
        lost.add_metric([place], number)
    yield from (team, lost)
