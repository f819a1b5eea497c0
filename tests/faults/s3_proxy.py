"""A proxy before an S3 server: it knows requests, so it can be slow or busy for some of them or
forbid them, keep a record of what was put, and enforce conditional puts before a server that does
not.

HTTP/1.1 with Content-Length, as boto3 talks to a local server. The Host header is passed through
unchanged, since the signature covers it.
"""

from __future__ import annotations

import hashlib
import http.client
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import Message
from io import BufferedReader

from tests.faults.proxy import Connection, Proxy

Match = Callable[[str, str], bool]
"""Whether a fault is for a request: its method, and its path without the query."""

LOOKS_AHEAD = 10.0
"""Seconds that the server may take to answer before its connection counts as dead."""


def every(method: str, path: str) -> bool:
    return True


@dataclass(frozen=True)
class Put:
    """An object that was sent on to the server. ``status`` 0: no answer came, it may be there."""

    path: str
    sha256: str
    status: int
    at: float = field(default_factory=time.time)

    @property
    def stored(self) -> bool:
        return 200 <= self.status < 300


@dataclass(frozen=True)
class _Request:
    method: str
    target: str
    headers: Message
    body: bytes

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes


class S3Proxy(Proxy):
    """As ``Proxy``, request by request. ``restore`` ends slowness and failing too.

    ``exists``: whether an object lies under a path (``/bucket/key``). Where it is given, a put with
    ``If-None-Match: *`` is refused with 412 if it does, and no two such puts run at a time.
    """

    def __init__(self, server_port: int, exists: Callable[[str], bool] | None = None) -> None:
        super().__init__(server_port)
        self._exists = exists
        self._one_put = threading.Lock()
        self._slow: tuple[float, Match] = (0.0, every)
        self._refused: tuple[Match, _Answer] | None = None
        self._puts: list[Put] = []

    def slow(self, seconds: float, match: Match = every) -> None:
        """Forward such requests only after so long; never, where the client has gone by then."""
        self._slow = (seconds, match)

    def busy(self, match: Match = every) -> None:
        """Answer such requests with 503 SlowDown, and do not forward them."""
        self._refused = match, _refusal(503, "SlowDown", "Please reduce your request rate.")

    def forbid(self, match: Match) -> None:
        """Answer such requests as a server whose policy does not allow them, with 403."""
        self._refused = match, _refusal(403, "AccessDenied", "Access Denied")

    def restore(self) -> None:
        self._slow, self._refused = (0.0, every), None
        super().restore()

    @property
    def puts(self) -> list[Put]:
        """All that was put until now, in the order of the server's answers."""
        return list(self._puts)

    def serve(self, connection: Connection) -> None:
        server: http.client.HTTPConnection | None = None
        with connection.client.makefile("rb") as reader:
            while True:
                request = _read(reader, connection)
                if request is None or not self._delayed(request, connection):
                    return
                refused = self._refused
                if refused is not None and refused[0](request.method, request.path):
                    answer = refused[1]
                else:
                    if server is None:
                        server = http.client.HTTPConnection(*self._server, timeout=LOOKS_AHEAD)
                        server.sock = self.connect(connection)
                        server.sock.settimeout(LOOKS_AHEAD)
                    answer = self._forward(server, request)
                if not self.may_pass(connection):
                    return
                connection.client.sendall(_bytes(request, answer))
                if server is not None and server.sock is None:
                    return  # the server wished to end the connection

    def _delayed(self, request: _Request, connection: Connection) -> bool:
        seconds, match = self._slow
        if not self.may_pass(connection):
            return False
        if seconds and match(request.method, request.path):
            until = time.monotonic() + seconds
            return self.wait(connection, lambda: time.monotonic() >= until)
        return True

    def _forward(self, server: http.client.HTTPConnection, request: _Request) -> _Answer:
        if request.method != "PUT":
            return _ask(server, request)
        if self._exists is None or request.headers.get("If-None-Match") != "*":
            return self._put(server, request)
        with self._one_put:
            if self._exists(request.path):
                return _refusal(412, "PreconditionFailed", "There is an object already.")
            return self._put(server, request)

    def _put(self, server: http.client.HTTPConnection, request: _Request) -> _Answer:
        status = 0
        try:
            answer = _ask(server, request)
            status = answer.status
            return answer
        finally:
            digest = hashlib.sha256(request.body).hexdigest()
            self._puts.append(Put(request.path, digest, status))


def _read(reader: BufferedReader, connection: Connection) -> _Request | None:
    line = reader.readline(65536)
    if not line:
        return None
    method, target, _ = line.decode("latin-1").split()
    headers = http.client.parse_headers(reader)
    if headers.get("Expect", "").lower() == "100-continue":
        del headers["Expect"]
        connection.client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    length = int(headers.get("Content-Length", 0))
    body = reader.read(length)
    if len(body) < length:
        raise ConnectionResetError  # half a put is none
    return _Request(method, target, headers, body)


def _ask(server: http.client.HTTPConnection, request: _Request) -> _Answer:
    server.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
    for name, value in request.headers.items():
        server.putheader(name, value)
    try:
        server.endheaders(request.body)
        answer = server.getresponse()
        return _Answer(answer.status, answer.getheaders(), answer.read())
    except http.client.HTTPException:
        raise ConnectionResetError from None


def _refusal(status: int, code: str, message: str) -> _Answer:
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    return _Answer(status, [("Content-Type", "application/xml")], body)


def _bytes(request: _Request, answer: _Answer) -> bytes:
    bare = request.method == "HEAD"  # its length is that of what it does not bring
    ours = {"transfer-encoding", "connection"} | (set() if bare else {"content-length"})
    headers = [(name, value) for name, value in answer.headers if name.lower() not in ours]
    if not bare and answer.status != 204:
        headers.append(("Content-Length", str(len(answer.body))))
    lines = [f"HTTP/1.1 {answer.status} {http.client.responses.get(answer.status, 'Answer')}"]
    lines += [f"{name}: {value}" for name, value in headers]
    head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    return head if bare else head + answer.body
