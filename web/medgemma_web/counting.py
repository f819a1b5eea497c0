"""The gateway's own metrics, for Prometheus. No label says whose a request was."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0)


class Counting:
    """Of one application."""

    def __init__(self, uploads: Callable[[], float]) -> None:
        """uploads: how many are under way."""
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "medgemma_http_requests",
            "Requests that were answered.",
            ["route", "method", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "medgemma_http_request_seconds",
            "From the head of a request to the end of its answer.",
            ["route", "method"],
            buckets=SECONDS,
            registry=self._registry,
        )
        Gauge(
            "medgemma_http_uploads_in_progress",
            "Bodies that are received, read and submitted.",
            registry=self._registry,
        ).set_function(uploads)

    def expect(self, route: str, method: str, statuses: Iterable[int]) -> None:
        """Have answers counted from zero: what begins at 1 has not risen, as Prometheus counts."""
        self._seconds.labels(route, method)
        for status in statuses:
            self._requests.labels(route, method, str(status))

    def count(self, route: str, method: str, status: int, seconds: float) -> None:
        """``route``: its template, empty where there is none."""
        route, method = route or "none", method if method in METHODS else "other"
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route, method).observe(seconds)

    def page(self) -> bytes:
        """As Prometheus reads it."""
        return generate_latest(self._registry)
