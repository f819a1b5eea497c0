"""Connections to one server alone, and never more from it than was allowed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import SplitResult, urlsplit

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter

from medgemma_tasks.errors import HostNotAllowed, StudyTooLarge

INSTANCES = 'multipart/related; type="application/dicom"; transfer-syntax=*'
"""Instances as they are. dicomweb-client asks for these only where it parses what comes, which
inflates a deflated file to whatever size."""

_PORTS = {"http": 80, "https": 443}


class OneHost(HTTPAdapter):
    """What a session of requests sends and gets, also where a server leads elsewhere."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._parts = urlsplit(url)
        self._part = self._all = 0
        self._most_part = self._most = 0
        self.status = 0
        """Of the last answer."""

    def allow(self, most_part: int, most: int) -> None:
        """From now on at most so many bytes, of each part of an answer and of all parts."""
        self._part = self._all = 0
        self._most_part, self._most = most_part, most

    def next_part(self) -> None:
        """A part is done with, and what comes belongs to another."""
        self._part = 0

    def send(self, request: PreparedRequest, *args: Any, **options: Any) -> Response:
        """Raises HostNotAllowed for any server but ours: a redirection comes by here, too."""
        parts = urlsplit(request.url or "")
        if _origin(parts) != _origin(self._parts):
            raise HostNotAllowed(
                "The DICOMweb server leads to another one, which was not asked for. Allow that in "
                "MEDGEMMA_DICOMWEB_HOSTS, and give its URL."
            )
        request.headers["Host"] = parts.netloc  # dicomweb-client leaves the port out
        # What is packed could come to any size.
        request.headers["Accept-Encoding"] = "identity"
        if str(request.headers.get("Accept")).startswith("multipart/related"):
            request.headers["Accept"] = INSTANCES
        response = super().send(request, *args, **options)
        self.status = response.status_code
        if response.headers.get("Content-Encoding", "identity") != "identity":
            response.close()
            raise StudyTooLarge("The DICOMweb server packs its answers, though asked not to.")
        kind = response.headers.get("Content-Type", "")
        if kind.startswith("application/"):  # which it compares as a whole
            response.headers["Content-Type"] = kind.partition(";")[0].strip()
        stream = response.raw.stream
        response.raw.stream = lambda *args, **options: self._counted(stream(*args, **options))
        return response

    def _counted(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._part += len(piece)
            self._all += len(piece)
            if self._part > self._most_part or self._all > self._most:
                over = self._most_part if self._part > self._most_part else self._most
                raise StudyTooLarge(
                    f"The DICOMweb server sends more than {over} bytes. Ask for one series, or "
                    "raise MEDGEMMA_MAX_FILE_BYTES (of an instance) or most_bytes (of a study).",
                    limit=over,
                )
            yield piece


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)
