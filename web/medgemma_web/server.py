"""The process: uvicorn around the application."""

from __future__ import annotations

import gc
import resource
import signal
import socket
import sys
from collections.abc import Callable

import uvicorn

from medgemma_client.errors import InvalidSettings
from medgemma_client.models import Settings
from medgemma_client.tracing import flush, instrument
from medgemma_web.app import make_app
from medgemma_web.keys import KeyRing
from medgemma_web.protocol import Protocol
from medgemma_web.settings import WebSettings

FILES = 65_536
"""Open files that are asked for: a connection is one."""


class _Server(uvicorn.Server):
    """Has streams end before it waits for requests that are under way, and no request wait for what
    will never be garbage."""

    def __init__(self, config: uvicorn.Config, stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._stop = stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # By now all is imported and both clients are made. To go through that in each full
        # collection stops every request for a tenth of a second.
        gc.collect()
        gc.freeze()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stop()
        await super().shutdown(sockets)


def serve(settings: Settings, web: WebSettings) -> None:
    """Until SIGTERM or SIGINT, which lets requests end. Raises InvalidSettings."""
    if web.keys_file is None:
        raise InvalidSettings(
            "Nobody could call without a key. `medgemma-explainer keys add --keys FILE --tenant T` "
            "makes one; then set MEDGEMMA_WEB_KEYS_FILE, or give --keys."
        )
    app = make_app(settings, web, KeyRing(web.keys_file))
    instrument("medgemma-gateway", gateway=app)
    config = uvicorn.Config(
        app,
        host=web.host,
        port=web.port,
        loop="uvloop",
        http=Protocol.under(web.head_timeout),
        ws="none",
        log_config=None,
        access_log=False,  # uvicorn's would have the query string
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=web.stop_grace,
    )
    with _listening(web) as listener:
        _raise_limit()
        # uvicorn raises again what it was told to stop by, once all is over.
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
        try:
            _Server(config, app.state.backend.stop).run([listener])
        finally:
            flush()


def _listening(web: WebSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in web.host else socket.AF_INET
    try:
        return socket.create_server((web.host, web.port), family=family, backlog=2048)
    except OSError as error:
        raise InvalidSettings(
            f"{web.host}:{web.port} cannot be had ({error.strerror or type(error).__name__}). Set "
            "MEDGEMMA_WEB_HOST or MEDGEMMA_WEB_PORT to others."
        ) from None


def _raise_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
