"""A supervisor's metrics, for Prometheus, and its health, for whoever starts and stops it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol

from medgemma_tasks.settings import Settings
from medgemma_worker import serving as http
from medgemma_worker.counters import BOUNDS, Counters

if TYPE_CHECKING:
    from prometheus_client import Metric

STANDSTILL = 30.0
"""Seconds without a turn of the supervisor's loop, which turns once a second, after which it is not
healthy: longer than clearing up after a killed worker ever took."""

FROM_ZERO = (
    ("succeeded", ""),
    ("cancelled", "job_cancelled"),
    *(("failed", code) for code in ("internal_error", "out_of_memory", "worker_lost")),
)
"""Ends of jobs that are told before there was any: what begins at 1 has no rate, so the first job
that killed its workers would raise no alarm."""


class Counted(Protocol):
    """A device and its worker, as a supervisor has them."""

    restarts: int
    counters: Counters

    @property
    def label(self) -> str:
        """The device's name."""

    @property
    def state(self) -> str:
        """How its worker is, in a word."""

    @property
    def alive(self) -> bool:
        """Whether it has a process."""

    @property
    def given_up(self) -> bool:
        """Whether nothing is started on it any more."""

    @property
    def up(self) -> bool:
        """Whether its worker is known to serve."""


class Fleet:
    """What is asked over HTTP, in a thread of its own, each time."""

    def __init__(
        self, model: str, children: Sequence[Counted], turned: Callable[[], float] = time.monotonic
    ) -> None:
        """turned: when the supervisor's loop last turned, on the monotonic clock."""
        self._model = model
        self._children = children
        self._turned = turned

    def collect(self) -> Iterator[Metric]:
        yield from self._of_devices()
        yield from self._of_jobs()

    def healthy(self) -> tuple[bool, object]:
        """Whether starting it anew would do no good: its loop turns, and it has a device left."""
        turns = time.monotonic() - self._turned() < STANDSTILL
        left = not all(child.given_up for child in self._children)
        return turns and left, self._told("ok" if turns and left else "not ok")

    def ready(self) -> tuple[bool, object]:
        """Whether a worker has its model loaded, and the queue answers it."""
        ready = any(child.up for child in self._children)
        return ready, self._told("ready" if ready else "not ready")

    def _told(self, status: str) -> object:
        return {
            "status": status,
            "model": self._model,
            "devices": [
                {"device": child.label, "state": child.state, "restarts": child.restarts}
                for child in self._children
            ],
        }

    def _of_devices(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        yield GaugeMetricFamily(
            "medgemma_devices_given_up",
            "Devices on which the model could not be loaded, so that nothing is started there.",
            value=sum(child.given_up for child in self._children),
        )
        restarts = CounterMetricFamily(
            "medgemma_worker_restarts",
            "Workers that were started again after one had died.",
            labels=["device"],
        )
        up = GaugeMetricFamily(
            "medgemma_worker_up",
            "1 where the worker is ready or busy, as it and the queue say; else 0.",
            labels=["device"],
        )
        memory = GaugeMetricFamily(
            "medgemma_device_memory_bytes",
            "On CUDA what torch holds of the card, the most it held, and the card's size; on a CPU "
            "the resident memory of the process with the model, its peak, and the machine's.",
            labels=["device", "kind"],
        )
        for child in self._children:
            restarts.add_metric([child.label], child.restarts)
            up.add_metric([child.label], float(child.up))
            for kind, size in child.counters.memory.items() if child.alive else ():
                memory.add_metric([child.label, kind], size)
        yield from (restarts, up, memory)

    def _of_jobs(self) -> Iterator[Metric]:
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        labels = ["model", "device"]
        jobs = CounterMetricFamily(
            "medgemma_jobs",
            "Jobs that got their mark here, by its state and, where they failed, code.",
            labels=[*labels, "state", "code"],
        )
        stages = HistogramMetricFamily(
            "medgemma_stage_seconds",
            "Seconds of a job in each stage; of jobs answered together each has its share.",
            labels=[*labels, "stage"],
        )
        tokens = CounterMetricFamily(
            "medgemma_answer_tokens",
            "Tokens that were generated for answers that got stored.",
            labels=labels,
        )
        busy = CounterMetricFamily(
            "medgemma_device_busy_seconds",
            "Seconds in which the device generated or explained.",
            labels=labels,
        )
        load = GaugeMetricFamily(
            "medgemma_model_load_seconds",
            "Seconds that the last load of the model took.",
            labels=labels,
        )
        for child in self._children:
            whose, counters = [self._model, child.label], child.counters
            for (state, code), number in {**dict.fromkeys(FROM_ZERO, 0), **counters.jobs}.items():
                jobs.add_metric([*whose, state, code], number)
            for stage, count in counters.stages.items():
                stages.add_metric([*whose, stage], _buckets(count.jobs), count.seconds)
            tokens.add_metric(whose, counters.answer_tokens)
            busy.add_metric(whose, counters.busy)
            if counters.load is not None:
                load.add_metric(whose, counters.load)
        yield from (jobs, stages, tokens, busy, load)


def _buckets(jobs: Iterable[int]) -> list[tuple[str, float]]:
    """As Prometheus has them: each holds those of all before it."""
    bounds = [*map(str, BOUNDS), "+Inf"]
    return list(zip(bounds, map(float, accumulate(jobs)), strict=True))


@contextmanager
def serving(settings: Settings, fleet: Fleet) -> Iterator[None]:
    """Serve metrics and health at MEDGEMMA_METRICS_PORT, if that is set.

    Raises InvalidSettings where the port cannot be had, PartMissing without prometheus-client.
    """
    if settings.metrics_port is None:
        yield
        return
    pages = {"/healthz": fleet.healthy, "/readyz": fleet.ready}
    named = "MEDGEMMA_METRICS_PORT or MEDGEMMA_METRICS_HOST"
    with http.serving(settings.metrics_host, settings.metrics_port, fleet, pages, named=named):
        yield
