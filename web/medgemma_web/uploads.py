"""Receiving bodies: how large, how slow and how many they may be, known before they are read.

Files lie in memory while they are small, and then in temporary files without a name, which are gone
with their process however it ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from traceback import clear_frames

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from medgemma_client.errors import (
    TooManyUploads,
    UploadMalformed,
    UploadTooLarge,
    UploadTooSlow,
    UploadUnknownType,
)
from medgemma_web.settings import WebSettings

MULTIPART, JSON = "multipart/form-data", "application/json"

RETRY_SECONDS = 2
"""After which to come again where too many upload."""

PART_BYTES = 8 * 2**20
"""Most bytes of a part that is no file: the question."""


class _Parser(MultiPartParser):
    """Takes texts in UTF-8 alone, where its base guesses, and no form that breaks off."""

    spool_max_size = 64 * 2**10
    _ended = False

    async def parse(self) -> FormData:
        _, options = parse_options_header(self.headers["content-type"])
        if options.get(b"charset", b"utf-8").lower() != b"utf-8":
            raise MultiPartException("Its charset is not UTF-8.")
        form = await super().parse()
        if not self._ended:
            await form.close()
            raise MultiPartException("It breaks off before its last boundary.")
        return form

    def on_part_end(self) -> None:
        if self._current_part.file is None:
            try:
                self._current_part.data.decode()
            except UnicodeDecodeError:
                raise MultiPartException("A part that is a text is not UTF-8.") from None
        super().on_part_end()

    def on_end(self) -> None:
        self._ended = True


class Uploads:
    """All bodies that are under way in this process."""

    def __init__(self, web: WebSettings, max_images: int) -> None:
        self._web = web
        self._max_files = max_images + 2  # one more is told by the client, in better words
        self.under_way = 0
        self._held, self._room = 0, asyncio.Condition()

    @asynccontextmanager
    async def admitted(self, request: Request) -> AsyncIterator[None]:
        """Be one of those under way. Nothing of the body is read before.

        Raises TooManyUploads, UploadUnknownType, and UploadTooLarge where its length says so.
        """
        self._check_head(request)
        if self.under_way >= self._web.uploads_at_once:
            raise TooManyUploads(
                "As many uploads are under way as may be; come again in a moment.",
                retry_after=RETRY_SECONDS,
            )
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1

    @asynccontextmanager
    async def in_memory(self, size: int) -> AsyncIterator[None]:
        """Be one of those whose files are read, so many bytes, once there is room: all together
        have as many as one body may. Who waits has its files on the disk."""
        async with self._room:
            most = self._web.max_upload_bytes
            await self._room.wait_for(lambda: self._held == 0 or self._held + size <= most)
            self._held += size
        try:
            yield
        except BaseException as error:
            _let_go(error)
            raise
        finally:
            async with self._room:
                self._held -= size
                self._room.notify_all()

    async def json(self, request: Request) -> bytes:
        """The whole of a JSON body. Raises UploadTooLarge, UploadTooSlow."""
        content = bytearray()
        async with aclosing(self._stream(request)) as pieces:
            async for piece in pieces:
                content += piece
        return bytes(content)

    @asynccontextmanager
    async def form(self, request: Request) -> AsyncIterator[FormData]:
        """The parts of a multipart body, whose files are closed at the end.

        Raises UploadTooLarge, UploadTooSlow, UploadMalformed.
        """
        async with aclosing(self._stream(request)) as pieces:
            parser = _Parser(
                request.headers,
                pieces,
                max_files=self._max_files,
                max_fields=self._max_files,
                max_part_size=PART_BYTES,
            )
            try:
                form = await parser.parse()
            except MultiPartException as error:
                raise UploadMalformed(f"The body is no multipart form: {error.message}") from None
        try:
            yield form
        finally:
            await form.close()

    def _check_head(self, request: Request) -> None:
        most = self._most(request)
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > most:
            raise _too_large(most)

    def _most(self, request: Request) -> int:
        kind = kind_of(request)
        return self._web.max_upload_bytes if kind == MULTIPART else self._web.max_json_bytes

    async def _stream(self, request: Request) -> AsyncGenerator[bytes]:
        loop, most = asyncio.get_running_loop(), self._most(request)
        end, received = loop.time() + self._web.upload_timeout, 0
        while True:
            left = min(self._web.idle_timeout, end - loop.time())
            try:
                message = await asyncio.wait_for(request.receive(), max(left, 0))
            except TimeoutError:
                raise UploadTooSlow("The body came too slowly; nothing was kept of it.") from None
            if message["type"] != "http.request":
                raise ClientDisconnect
            received += len(message.get("body", b""))
            if received > most:
                raise _too_large(most)
            yield message.get("body", b"")
            if not message.get("more_body", False):
                return


def kind_of(request: Request) -> str:
    """MULTIPART or JSON. Raises UploadUnknownType."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in (MULTIPART, JSON):
        raise UploadUnknownType(f"A question comes as {MULTIPART} or {JSON}.")
    return kind


def _let_go(error: BaseException | None) -> None:
    """Clear the variables of all that an error broke off, and of the errors before it: until it is
    told, its traceback would hold the files that were read."""
    done = set[int]()
    while error is not None and id(error) not in done:  # they may go round
        done.add(id(error))
        clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _too_large(most: int) -> UploadTooLarge:
    return UploadTooLarge(
        f"The body has more than {most:,} bytes, and no more are taken.", limit=most
    )
