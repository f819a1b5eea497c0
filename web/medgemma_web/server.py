"""The process: uvicorn around the application."""

from __future__ import annotations

import uvicorn

from medgemma_client.errors import InvalidSettings
from medgemma_client.models import Settings
from medgemma_web.app import make_app
from medgemma_web.keys import KeyRing
from medgemma_web.settings import WebSettings


def serve(settings: Settings, web: WebSettings) -> None:
    """Until SIGTERM or SIGINT. Raises InvalidSettings."""
    if web.keys_file is None:
        raise InvalidSettings(
            "Nobody could call without a key. `medgemma-explainer keys add --keys FILE --tenant T` "
            "makes one; then set MEDGEMMA_WEB_KEYS_FILE, or give --keys."
        )
    app = make_app(settings, web, KeyRing(web.keys_file))
    config = uvicorn.Config(
        app,
        host=web.host,
        port=web.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,  # uvicorn's would have the query string
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=web.stop_grace,
    )
    uvicorn.Server(config).run()
