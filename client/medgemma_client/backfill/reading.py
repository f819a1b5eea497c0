"""Processes that read and check the images of rows, several rows at a time."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from threading import Condition, Lock, Thread
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar, cast

from medgemma_client.backfill.child import Child, Gone
from medgemma_client.backfill.patience import StoppedError
from medgemma_client.backfill.rows import BadRow, Row
from medgemma_tasks.models import ImageRef
from medgemma_tasks.settings import Settings

ROW_SECONDS = 300.0
"""That reading the images of one row may take."""
MOST_BYTES = 2**29
"""Of images that were read and not yet asked for. One row may have more, and is then alone."""
MOST_PROCESSES = 8
"""Unless told otherwise: each may take some gigabytes for a large image."""


@dataclass(frozen=True, repr=False)
class Read:
    """A row whose images can all be used."""

    row: Row
    refs: tuple[ImageRef, ...]
    """One for each image, in order; the row's left_of_image and top_of_image are in them."""
    pngs: tuple[bytes, ...]
    """What is to be uploaded, in the same order."""


@dataclass(frozen=True, repr=False)
class Looked:
    """A row of which no image's header speaks against it."""

    row: Row
    images: int


Good = TypeVar("Good", Read, Looked)
_Answer: TypeAlias = "Read | Looked | BadRow | Exception | None"


@dataclass
class _Round:
    """One call of ``read`` or ``look``."""

    pixels: bool
    answers: SimpleQueue[_Answer] = field(default_factory=SimpleQueue)
    asked: int = 0
    """Rows whose answer is still to be taken."""
    over: bool = False
    """Nobody waits for answers any longer."""


class _Held:
    """How many bytes of images are held; who would hold too many waits."""

    def __init__(self) -> None:
        self._bytes = 0
        self._less = Condition()
        self._open = False

    def take(self, more: int) -> None:
        with self._less:
            self._less.wait_for(
                lambda: self._open or not self._bytes or self._bytes + more <= MOST_BYTES
            )
            self._bytes += more

    def give(self, fewer: int) -> None:
        with self._less:
            self._bytes -= fewer
            self._less.notify_all()

    def open(self) -> None:
        """Let nobody wait any longer."""
        with self._less:
            self._open = True
            self._less.notify_all()


class Readers:
    """Context manager: the processes, which end with it, and with the process that has them.

    A row over whose images a process dies, or that takes too long, is refused as any other that
    cannot be read; the process is started again.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        base: Path,
        buckets: Sequence[str] = (),
        processes: int | None = None,
        row_seconds: float = ROW_SECONDS,
    ) -> None:
        """``base``: what relative paths start from. ``buckets``: whose objects may be read.
        ``processes``: None takes one a core. ``row_seconds``: that reading a row may take."""
        self._said = {
            "settings": settings.model_dump(mode="json", exclude={"broker_url"}),
            "base": str(base.absolute()),
            "buckets": [*buckets],
            "seconds": row_seconds,
        }
        self._seconds = row_seconds
        self._count = processes or min(os.cpu_count() or 1, MOST_PROCESSES)
        self._todo: SimpleQueue[tuple[Row, _Round] | None] = SimpleQueue()
        self._held = _Held()
        self._closing, self._closed = Lock(), False
        self._children: list[Child] = []
        self._threads: list[Thread] = []

    def __enter__(self) -> Self:
        self._children = [Child(self._said) for _ in range(self._count)]
        # One for each: a process is tied to the thread that started it.
        self._threads = [
            Thread(target=self._serve, args=(child,), daemon=True) for child in self._children
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._held.open()
        with self._closing:
            self._closed = True
        for child in self._children:
            child.close()
            self._todo.put(None)
        for thread in self._threads:
            thread.join()

    def read(self, rows: Iterable[Row | BadRow]) -> Iterator[Read | BadRow]:
        """Each row as it is done, in order of completion; a BadRow is passed on.

        Looks a few rows ahead, and holds no more than MOST_BYTES of images; what was given is the
        caller's, and counts no longer. One call at a time; where its iterator is closed early, what
        was under way is dropped. Raises StoppedError once the processes were ended, which another
        thread may do at any time.
        """
        return self._each(rows, _Round(pixels=True), Read)

    def look(self, rows: Iterable[Row | BadRow]) -> Iterator[Looked | BadRow]:
        """As ``read``, but by the images' headers alone."""
        return self._each(rows, _Round(pixels=False), Looked)

    def _each(
        self, rows: Iterable[Row | BadRow], round_: _Round, kind: type[Good]
    ) -> Iterator[Good | BadRow]:
        try:
            for row in rows:
                if isinstance(row, BadRow):
                    yield row
                    continue
                while round_.asked >= 2 * self._count or not round_.answers.empty():
                    yield self._next(round_, kind)
                with self._closing:
                    if self._closed:
                        raise StoppedError  # nobody would answer
                    self._todo.put((row, round_))
                round_.asked += 1
            while round_.asked:
                yield self._next(round_, kind)
        finally:
            round_.over = True
            if round_.asked:
                for child in self._children:
                    child.interrupt()
            while round_.asked:
                self._take(round_)

    def _next(self, round_: _Round, kind: type[Good]) -> Good | BadRow:
        answer = self._take(round_)
        if isinstance(answer, kind | BadRow):
            return answer
        raise cast("Exception", answer)

    def _take(self, round_: _Round) -> _Answer:
        answer = round_.answers.get()
        round_.asked -= 1
        if isinstance(answer, Read):
            self._held.give(sum(map(len, answer.pngs)))
        return answer

    def _serve(self, child: Child) -> None:
        while (task := self._todo.get()) is not None:
            row, round_ = task
            answer: _Answer = None
            try:
                if not round_.over:
                    answer = self._ask(child, row, round_.pixels)
            except Exception as error:  # noqa: BLE001 - it is raised where the rows are read
                answer = error
            round_.answers.put(answer)
        child.end()

    def _ask(self, child: Child, row: Row, pixels: bool) -> _Answer:
        taken = 0

        def room(size: int) -> None:
            nonlocal taken
            self._held.take(size)
            taken = size

        found = child.ask(_question(row, pixels), room)
        if isinstance(found, Gone):
            self._held.give(taken)
            return BadRow.of(row.number, row.item, found.error(self._seconds))
        answer, pngs = found
        if "code" in answer:
            return BadRow(row.number, row.item, answer["code"], answer["message"])
        if not pixels:
            return Looked(row, answer["images"])
        return Read(row, tuple(map(ImageRef.model_validate, answer["refs"])), pngs)


def _question(row: Row, pixels: bool) -> dict[str, Any]:
    """A row as ``reader`` takes it. Nothing of it but its images concerns a reader."""
    texts = isinstance(row.prompt, str)
    return {
        "images": row.images,
        "named": None if texts else sum(isinstance(part, int) for part in row.prompt),
        "lie": {side: row.options.get(side) for side in ("left_of_image", "top_of_image")},
        "pixels": pixels,
    }
