"""Metrics and health over HTTP, for whoever watches a supervisor or the fleet's exporter."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from threading import Thread
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from medgemma_tasks.errors import InvalidSettings, PartMissing

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from prometheus_client.registry import Collector

Page = Callable[[], tuple[bool, object]]
"""Whether all is well, and what is to be told of it as JSON."""

PATIENCE = 10.0
"""Seconds for which one who calls may be silent before the connection is closed."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    timeout = PATIENCE

    def log_message(self, format: str, *args: Any) -> None:
        """A call every few seconds is no news, and its text is anybody's."""


@contextmanager
def serving(
    host: str, port: int, collector: Collector, pages: Mapping[str, Page], *, named: str
) -> Iterator[int]:
    """Serve ``/metrics`` and the pages in a thread; gives the port (one that is free for 0).

    A page answers 200 where all is well and else 503, whatever is asked of it but by GET 405, and
    other paths 404. named: what names host and port, for the error.

    Raises InvalidSettings where the port cannot be had, PartMissing without prometheus-client.
    """
    try:
        from prometheus_client import CollectorRegistry, make_wsgi_app
    except ImportError:
        raise PartMissing(
            "Metrics need the package prometheus-client: install medgemma-explainer[worker] (or "
            "[web])."
        ) from None
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    app = _routed(make_wsgi_app(registry), pages)
    try:
        server = make_server(host, port, app, server_class=_Server, handler_class=_Handler)
    except OSError as error:
        raise InvalidSettings(
            f"No metrics can be served at {host}:{port} ({error.strerror or type(error).__name__})."
            f" Set {named} to others."
        ) from None
    Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def _routed(metrics: WSGIApplication, pages: Mapping[str, Page]) -> WSGIApplication:
    def app(environment: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path, method = environment.get("PATH_INFO", ""), environment["REQUEST_METHOD"]
        page = pages.get(path)
        if page is None and path != "/metrics":
            return _answer(start, "404 Not Found", {"status": "not found"})
        if method not in ("GET", "HEAD"):
            return _answer(start, "405 Method Not Allowed", {"status": "only GET"})
        if page is None:
            return metrics(environment, start)
        well, said = page()
        return _answer(start, "200 OK" if well else "503 Service Unavailable", said)

    return app


def _answer(start: StartResponse, status: str, said: object) -> list[bytes]:
    body = json.dumps(said).encode() + b"\n"
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start(status, [*headers, ("Cache-Control", "no-store")])
    return [body]
