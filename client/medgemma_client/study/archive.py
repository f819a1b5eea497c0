"""A zip file, read where it lies: nothing of it is ever unpacked to the disk.

What it may come to is known before anything is unpacked: zipfile unpacks no more of a member than
the directory declares, and refuses members that overlap each other.
"""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from medgemma_client.study.limits import Limits
from medgemma_tasks.errors import ArchiveUnreadable, MedGemmaError, PathOutside, StudyTooLarge

_DIRECTORY_BYTES = 2**23
"""Of the directory at the end of a zip file: that of 80,000 files with usual names. zipfile reads
it in one piece, and makes some 600 bytes of each 100."""
_PIECE = 2**20
_ENCRYPTED = 1
"""The bit of a member's flags."""


class Archive:
    """The names and unpacked sizes of the files in it. Context manager, within which it is kept
    open; what is read outside of it opens it anew."""

    def __init__(self, place: Path | bytes, size: int, limits: Limits) -> None:
        """``size``: of the zip file itself, in bytes."""
        self._place, self._size, self._limits = place, size, limits
        self._zip: zipfile.ZipFile | None = None

    def __enter__(self) -> Self:
        with _named():
            place = self._place
            file = BytesIO(place) if isinstance(place, bytes) else place.open("rb")
            try:
                # Its methods that are used are those of a file: read, seek, tell.
                self._zip = zipfile.ZipFile(_Bounded(file))
            except BaseException:
                file.close()
                raise
            self._file = file
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._zip is not None:
            self._zip.close()
            self._file.close()
            self._zip = None

    def __iter__(self) -> Iterator[tuple[str, int]]:
        """Raises PathOutside, StudyTooLarge, ArchiveUnreadable before it gives the first."""
        members = self._zip.infolist() if self._zip is not None else []
        for member in members:
            _check(member)
        files = [member for member in members if not member.is_dir()]
        if len(files) > self._limits.files:
            raise StudyTooLarge(
                f"The zip file holds {len(files)} files, and the limit is {self._limits.files}.",
                limit=self._limits.files,
            )
        unpacked = sum(member.file_size for member in files)
        if unpacked > self._limits.ratio_from and unpacked > self._limits.ratio * self._size:
            raise StudyTooLarge(
                f"The zip file of {self._size} bytes would unpack to {unpacked}, which no real "
                "study does. Raise the limit of the ratio if you trust it.",
                bytes=unpacked,
                limit=self._limits.ratio * self._size,
            )
        for member in files:
            yield member.filename, member.file_size

    def read(self, name: str, count: int) -> bytes:
        """The first bytes of a file in it. Raises ArchiveUnreadable."""
        if self._zip is None:
            with self:
                return self.read(name, count)
        pieces, left = [], count
        with _named(), self._zip.open(name) as member:
            while left > 0 and (piece := member.read(min(left, _PIECE))):
                pieces.append(piece)
                left -= len(piece)
        return b"".join(pieces)


def _check(member: zipfile.ZipInfo) -> None:
    name = member.filename.replace("\\", "/")
    if name.startswith("/") or ".." in name.split("/") or name[1:2] == ":":
        raise PathOutside(
            "A name in the zip file leads out of it. No tool packs a study so; do not trust it."
        )
    if stat.S_ISLNK(member.external_attr >> 16):
        raise PathOutside("The zip file holds a link. Have the files themselves packed.")
    if member.flag_bits & _ENCRYPTED:
        raise ArchiveUnreadable("The zip file is encrypted. Unpack it with its password first.")
    # Others unpack whole blocks without a bound.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ArchiveUnreadable(
            "The zip file is packed by another method than deflate. Pack it anew."
        )


class _Bounded:
    """A file of which nothing is read in one piece that is larger than a directory may be."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell, self.close = file.seek, file.tell, file.close
        self.seekable = file.seekable

    def read(self, count: int = -1) -> bytes:
        if count > _DIRECTORY_BYTES:
            raise StudyTooLarge(
                "The directory of the zip file names too many files. Pack one study alone.",
                limit=_DIRECTORY_BYTES,
            )
        return self._file.read(count)  # without a count it is what follows the directory


@contextmanager
def _named() -> Iterator[None]:
    """Whatever goes wrong inside a zip file, as an error that quotes no name in it."""
    try:
        yield
    except MedGemmaError:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        OSError,
        EOFError,
        ValueError,
        KeyError,
        NotImplementedError,
        RuntimeError,
        OverflowError,
    ):
        raise ArchiveUnreadable(
            "The zip file is damaged, or of a kind that is not read. Fetch or pack it anew."
        ) from None
