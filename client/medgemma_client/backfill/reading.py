"""Processes that read and check the images of rows, several rows at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from medgemma_client.backfill.rows import BadRow, Row
from medgemma_tasks.models import ImageRef
from medgemma_tasks.settings import Settings


@dataclass(frozen=True, repr=False)
class Read:
    """A row whose images can all be used."""

    row: Row
    refs: tuple[ImageRef, ...]
    """One for each image, in order; the row's left_of_image and top_of_image are in them."""
    pngs: tuple[bytes, ...]
    """What is to be uploaded, in the same order."""


class Readers:
    """Context manager: the processes, which end with it."""

    def __init__(
        self,
        settings: Settings,
        *,
        base: Path,
        buckets: Sequence[str] = (),
        processes: int | None = None,
    ) -> None:
        """``base``: what relative paths start from. ``processes``: None takes one a core."""

    def __enter__(self) -> Self:
        raise NotImplementedError

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        raise NotImplementedError

    def read(self, rows: Iterable[Row | BadRow]) -> Iterator[Read | BadRow]:
        """Each row as it is done, in order of completion; a BadRow is passed on.

        Looks a few rows ahead, and holds no more than a bound of bytes of images; what was yielded
        is the caller's, and counts no longer once the next is asked for.
        """
        raise NotImplementedError
