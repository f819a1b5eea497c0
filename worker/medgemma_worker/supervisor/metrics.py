"""A supervisor's metrics, for Prometheus: which devices serve, and which were given up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from medgemma_tasks.errors import InvalidSettings, PartMissing
from medgemma_tasks.settings import Settings
from medgemma_worker.supervisor.devices import Device

if TYPE_CHECKING:
    from prometheus_client import Metric


class Counted(Protocol):
    """A device and its worker, as a supervisor has them."""

    device: Device
    restarts: int

    @property
    def given_up(self) -> bool:
        """Whether nothing is started on it any more."""

    @property
    def up(self) -> bool:
        """Whether its worker is known to serve."""


class Fleet:
    """What Prometheus asks, in a thread of its own, at each scrape."""

    def __init__(self, children: Sequence[Counted]) -> None:
        self._children = children

    def collect(self) -> Iterator[Metric]:
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
        for child in self._children:
            restarts.add_metric([child.device.name], child.restarts)
            up.add_metric([child.device.name], float(child.up))
        yield restarts
        yield up


@contextmanager
def serving(settings: Settings, children: Sequence[Counted]) -> Iterator[None]:
    """Serve the metrics at MEDGEMMA_METRICS_PORT, if that is set.

    Raises InvalidSettings where the port cannot be had, PartMissing without prometheus-client.
    """
    if settings.metrics_port is None:
        yield
        return
    try:
        from prometheus_client import CollectorRegistry, start_http_server
    except ImportError:
        raise PartMissing(
            "MEDGEMMA_METRICS_PORT needs the package prometheus-client: install "
            "medgemma-explainer[worker]."
        ) from None
    registry = CollectorRegistry()
    registry.register(Fleet(children))
    try:
        server, _ = start_http_server(settings.metrics_port, settings.metrics_host, registry)
    except OSError as error:
        raise InvalidSettings(
            f"No metrics can be served at {settings.metrics_host}:{settings.metrics_port} "
            f"({error.strerror or type(error).__name__}). Set MEDGEMMA_METRICS_PORT or "
            "MEDGEMMA_METRICS_HOST to others."
        ) from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
