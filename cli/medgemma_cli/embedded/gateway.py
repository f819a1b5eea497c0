"""The HTTP gateway and its page as a process of its own, with one key that was made for it."""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from medgemma_cli.embedded.process import HOST, EmbeddedServer, Launch
from medgemma_tasks.errors import ServiceError


class EmbeddedGateway(EmbeddedServer):
    """``medgemma-explainer serve`` on a free loopback port, for one tenant.

    Redis, store and model are those of this process's environment. Starting it raises ServiceError
    where it does not come up.
    """

    name: ClassVar[str] = "gateway"
    error: ClassVar[type[ServiceError]] = ServiceError

    def __init__(self, tenant: str, folder: Path | None = None) -> None:
        super().__init__(folder)
        self._tenant = tenant
        self._key = ""

    def address(self, job_id: str) -> str:
        """Of the page with a job in view. It has the key: not for logs nor for command lines."""
        return f"http://{HOST}:{self.port}/#key={self._key}&job={job_id}"

    def _launch(self, folder: Path, port: int) -> Launch:
        from medgemma_web.keys import add_key

        keys = folder / "keys.json"
        if not self._key:
            self._key, _ = add_key(keys, self._tenant, "demo")
        serve = ("serve", "--host", HOST, "--port", str(port), "--keys", str(keys))
        return Launch(command=(sys.executable, "-m", "medgemma_cli", *serve), env=os.environ)

    def _answers(self) -> bool:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with direct.open(f"http://{HOST}:{self.port}/healthz", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _secrets(self) -> Sequence[str]:
        return (self._key,)
