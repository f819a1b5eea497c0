"""What is around every request: headers that keep browsers careful, a line in the log, a count, and
an answer to what nobody foresaw."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medgemma_web.counting import Counting
from medgemma_web.problems import defect

log = logging.getLogger("medgemma_web.access")

LINGER_SECONDS, LINGER_BYTES = 1.0, 2**20
"""How long, and for how much, a body is let run out that was refused: a connection that is closed
while its other end still sends is reset, and the answer may be lost on the way."""

QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked every few seconds by what watches, not by users: not counted, nor a line in the log each
time."""

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
"""Where a route says nothing else."""


class Around:
    """The outermost of the application's layers."""

    def __init__(self, app: ASGIApp, counting: Counting) -> None:
        self._app, self._counting = app, counting

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        answer = _Answer(scope, receive, send)
        try:
            await self._app(scope, answer.receive, answer.send)
        except ClientDisconnect:
            answer.status = answer.status or 499  # as proxies call it
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not be printed
            response = defect(error)
            if answer.status == 0:
                await response(scope, receive, answer.send)
        finally:
            self._tell(scope, answer.status, time.perf_counter() - began)

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "")
        if route not in QUIET:
            self._counting.count(route, scope["method"], status, seconds)
        elif status < 400:
            return
        key = scope.get("state", {}).get("key")
        log.info(
            "%s %s %d %.0f ms key=%s job=%s",
            scope["method"] if scope["method"].isalpha() else "?",
            route or "(no route)",  # and not the path, in which anything may stand
            status,
            seconds * 1000,
            "-" if key is None else key.id,
            _job(scope),
        )


class _Answer:
    """What passes through, looked at."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        sent = {name for name, _ in scope["headers"]}
        self._whole = not sent & {b"content-length", b"transfer-encoding"}
        """Whether all of the request's body was taken."""
        self.status = 0

    async def receive(self) -> Message:
        message = await self._receive()
        self._whole = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            if not self._whole:
                headers["Connection"] = "close"
        elif not self._whole and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._linger()
            message = {"type": "http.response.body"}
        await self._send(message)

    async def _linger(self) -> None:
        left = LINGER_BYTES
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while left > 0 and not self._whole:
                    left -= len((await self.receive()).get("body", b""))


def _job(scope: Scope) -> str:
    job_id = str(scope.get("path_params", {}).get("job_id", "-"))
    return job_id if job_id.isalnum() and len(job_id) == 32 else "-"
