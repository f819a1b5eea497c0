"""uvicorn's HTTP protocol with the deadlines that it has not: for the head of a request, and for a
reader that takes nothing. What it turns away itself are problems too."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from medgemma_web.problems import MEDIA_TYPE, problem

HEAD_BYTES = 64 * 2**10
"""Most bytes of a request's head, all headers together."""

STALLED = 60.0
"""Seconds for which a connection may take nothing of what is sent."""


class Protocol(HttpToolsProtocol):
    """One connection. ``under`` makes the class that knows its deadline."""

    head_timeout = 10.0

    _head: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _stall: asyncio.TimerHandle | None = None

    @classmethod
    def under(cls, head_timeout: float) -> type[Protocol]:
        """head_timeout: seconds from a connection, or the first byte of its next request, to the
        end of the head."""
        return type("Protocol", (cls,), {"head_timeout": head_timeout})

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        self._end_stall()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head is not None:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse(431, "head_too_large", "The head of the request is too large.")

    def on_message_begin(self) -> None:
        self._await_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._end_head()
        super().on_headers_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stall is None:
            self._stall = self.loop.call_later(STALLED, self.transport.abort)

    def resume_writing(self) -> None:
        self._end_stall()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "malformed_request", "This is no HTTP that can be read.")

    def _await_head(self) -> None:
        if self._head is None:
            self._head_bytes = 0
            self._head = self.loop.call_later(self.head_timeout, self._late)

    def _end_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _end_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _late(self) -> None:
        self._head = None
        self._refuse(408, "head_too_slow", "The head of the request came too slowly.")

    def _refuse(self, status: int, code: str, detail: str) -> None:
        self._end_head()
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:  # else it would stand amid another
            body = bytes(problem(status, code, detail).body)
            lines = [
                f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
                f"content-type: {MEDIA_TYPE}",
                f"content-length: {len(body)}",
                "connection: close",
            ]
            self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        self.transport.close()
