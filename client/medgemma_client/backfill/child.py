"""A process that reads images, seen from the one that started it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import IO, Any, cast

from medgemma_tasks.errors import DecoderDied, InternalError, MedGemmaError, ReadingTimeLimit

_MOST_LINE = 2**24
"""Bytes of an answer's line: some 500 for each image."""


@dataclass(frozen=True)
class Gone:
    """It ended over a row."""

    image: int
    """The image that it had turned to, from 1; 0 before that."""
    signal: int | None
    """What ended it, where a signal did."""

    def error(self, seconds: float) -> MedGemmaError:
        """Why the row is refused. ``seconds``: the limit of a row."""
        what = f"Image {self.image}" if self.image else "Finding the images"
        if self.signal == signal.SIGALRM:
            return ReadingTimeLimit(
                f"{what}: the limit of {seconds:g} s for reading a row passed. Leave the image "
                "out, or split the row.",
                image=self.image,
            )
        how = f" ({signal.Signals(self.signal).name})" if self.signal else ""
        return DecoderDied(
            f"{what}: the process that read it died over it{how}. Have the image exported anew, "
            "or leave it out.",
            image=self.image,
        )


class Child:
    """Started at the first question, and again after it ended.

    For one thread, but for ``interrupt`` and ``close``.

    In a process group of its own, so that an interrupt from the terminal does not reach it, and
    what it started itself ends with it.
    """

    def __init__(self, said: dict[str, Any]) -> None:
        """``said``: the first line that it is told, see ``reader``."""
        self._said = said
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = self._interrupted = False
        self._lock = Lock()

    def ask(
        self, question: dict[str, Any], room: Callable[[int], None]
    ) -> tuple[dict[str, Any], tuple[bytes, ...]] | Gone:
        """Its answer and the bodies behind it; ``room`` is told how many bytes they have, and may
        wait, before any is read. Raises InternalError where it cannot even be started."""
        line = json.dumps(question).encode() + b"\n"
        at = 0
        if self._interrupted:  # over an earlier question: it may not have noticed yet
            self.end()
        try:
            process = self._started()
            try:
                _tell(process, line)
            except BrokenPipeError:  # it was ended while it had nothing to do
                self.end()
                process = self._started()
                _tell(process, line)
            while "at" in (answer := _line(process)):
                at = answer["at"]
            sizes = answer.get("sizes", ())
            room(sum(sizes))
            return answer, tuple(_exactly(process, size) for size in sizes)
        except (EOFError, BrokenPipeError):
            return Gone(at, self.end())

    def interrupt(self) -> None:
        """End what it does, from whatever thread; who waits for its answer sees it gone."""
        with self._lock:
            if self._process is not None:
                self._interrupted = True
                _kill(self._process)

    def close(self) -> None:
        """Interrupt it, and never start it again."""
        with self._lock:
            self._closed = True
        self.interrupt()

    def end(self) -> int | None:
        """End it, and whatever it started; the signal that had ended it before, if one had."""
        with self._lock:
            process, self._process, self._interrupted = self._process, None, False
            if process is None:
                return None
            _kill(process)  # before it is reaped: its number may be another's then
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        status = process.wait()
        return -status if status < 0 else None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None:
            return self._process
        with self._lock:
            if self._closed:
                raise EOFError
            # -P: the folder that the caller happens to be in holds none of our modules.
            module = "medgemma_client.backfill.reader"
            process = self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-P", "-m", module, str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # where a decoder may quote what it reads
                process_group=0,
            )
        try:
            _tell(process, json.dumps(self._said).encode() + b"\n")
            _line(process)
        except (EOFError, BrokenPipeError):
            wanted = not (self._closed or self._interrupted)
            self.end()
            if not wanted:
                raise EOFError from None
            raise InternalError(
                "The processes that read images cannot be started: is the package whole?"
            ) from None
        return process


def _tell(process: subprocess.Popen[bytes], line: bytes) -> None:
    pipe = cast("IO[bytes]", process.stdin)
    pipe.write(line)
    pipe.flush()


def _line(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """The next line of its answer. Raises EOFError where it ended."""
    line = cast("IO[bytes]", process.stdout).readline(_MOST_LINE)
    if not line.endswith(b"\n"):
        raise EOFError
    found: dict[str, Any] = json.loads(line)
    return found


def _exactly(process: subprocess.Popen[bytes], size: int) -> bytes:
    body = cast("IO[bytes]", process.stdout).read(size)
    if len(body) < size:
        raise EOFError
    return body


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
