"""A small DICOMweb server on this machine: QIDO, WADO and STOW over a few instances in memory."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pydicom

STUDY = "1.2.826.0.1.73519.4.1"
SERIES = f"{STUDY}.1"
PART = b"--there\r\nContent-Type: application/dicom\r\n\r\n"


@dataclass
class Server:
    """What it has, what it was asked, and how it misbehaves."""

    instances: dict[str, bytes]
    """By series; each is sent as often as it is listed."""
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """Method, path and headers of each request."""
    stored: list[bytes] = field(default_factory=list)
    status: int = 200
    """Other than 200: nothing but that."""
    leads_to: str = ""
    """Where every request is sent on to."""
    packs: bool = False
    sends: bytes | None = None
    """In place of the answer to a WADO or a STOW."""
    fails: bool = False
    """Whether each result is refused, in an answer that otherwise says that all went well."""
    repeats: int = 1
    """How often each instance is sent, whatever QIDO lists."""
    lists: int | None = None
    """How many instances QIDO lists, whatever there are."""
    url: str = ""


@contextmanager
def serving(**said: Any) -> Iterator[Server]:
    server = Server(**said)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._note()
            if self._amiss():
                return
            parts = urlsplit(self.path)
            if parts.path.endswith("/instances"):
                limit = int(parse_qs(parts.query).get("limit", ["1000"])[0])
                listed = [
                    {"00080018": {"vr": "UI", "Value": [f"{SERIES}.{k}"]}}
                    for k in range(server.lists or len(self._meant(parts.path)))
                ]
                self._say(
                    "application/dicom+json; charset=utf-8", json.dumps(listed[:limit]).encode()
                )
            elif server.sends is not None:
                self._say(
                    'multipart/related; type="application/dicom"; boundary=there', server.sends
                )
            else:
                bodies = self._meant(parts.path) * server.repeats
                body = b"".join(PART + content + b"\r\n" for content in bodies) + b"--there--\r\n"
                self._say('multipart/related; type="application/dicom"; boundary=there', body)

        def do_POST(self) -> None:
            self._note()
            body = self._body()
            if self._amiss():
                return
            content = body.partition(b"\r\n\r\n")[2].rpartition(b"\r\n--")[0]
            dataset = pydicom.dcmread(BytesIO(content))
            item = {"00081155": {"vr": "UI", "Value": [dataset.SOPInstanceUID]}}
            if server.fails:
                reason = {**item, "00081197": {"vr": "US", "Value": [0x0122]}}
                answer = {"00081198": {"vr": "SQ", "Value": [reason]}}
            else:
                server.stored.append(content)
                answer = {"00081199": {"vr": "SQ", "Value": [item]}}
            said = json.dumps(answer).encode() if server.sends is None else server.sends
            self._say("application/dicom+json; charset=utf-8", said)

        def _meant(self, path: str) -> list[bytes]:
            found = re.search("/series/([0-9.]+)", path)
            return [
                content
                for series, content in server.instances.items()
                if found is None or series == found[1]
            ]

        def _note(self) -> None:
            server.asked.append((self.command, self.path, dict(self.headers.items())))

        def _amiss(self) -> bool:
            if server.leads_to:
                self.send_response(307)
                self.send_header("Location", server.leads_to + self.path)
            elif server.status != 200:
                self.send_response(server.status)
            else:
                return False
            self.send_header("Content-Length", "0")
            self.end_headers()
            return True

        def _say(self, kind: str, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            if server.packs:
                self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            with suppress(OSError):  # whoever asked had enough
                self.wfile.write(body)

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers["Content-Length"]))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def log_message(self, *said: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server.url = f"http://127.0.0.1:{http.server_address[1]}"
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield server
        finally:
            http.shutdown()
