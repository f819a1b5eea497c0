"""The files of a study: of a folder, a zip file, or a list of either and of files.

Nothing is unpacked to the disk. No error names a file: where one must be told apart it is by its
number, in the order in which they are read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from medgemma_client.images.counting import as_people_count
from medgemma_client.study.archive import Archive
from medgemma_client.study.limits import Limits
from medgemma_tasks.errors import FileUnreadable, ImageTooLarge, PathOutside, StudyTooLarge

One: TypeAlias = "str | os.PathLike[str] | bytes"
StudySource: TypeAlias = "One | Sequence[One]"
"""A folder, a zip file or a single file, by path or as bytes; or a list of them, in order."""

_ZIP = b"PK\3\4", b"PK\5\6"
"""How a zip file begins, and an empty one."""


@dataclass(frozen=True, repr=False)
class StudyFile:
    """A file of a study, read when asked for."""

    place: Path | bytes | tuple[Archive, str]
    size: int
    """In bytes, unpacked."""

    def head(self, count: int) -> bytes:
        """Its first bytes, fewer where it has fewer. Raises FileUnreadable, ArchiveUnreadable."""
        if isinstance(self.place, bytes):
            return self.place[:count]
        if isinstance(self.place, tuple):
            archive, member = self.place
            return archive.read(member, count)
        with _told():
            # Not through a link that was put in its place since it was found.
            descriptor = os.open(self.place, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
            with open(descriptor, "rb") as file:
                return file.read(count)

    def read(self) -> bytes:
        """All of it; a file that has grown meanwhile only as far as it reached."""
        return self.head(self.size)


@contextmanager
def open_files(source: StudySource, limits: Limits) -> Iterator[list[StudyFile]]:
    """The files, those of a folder sorted by their paths as people count (2 before 10), those of a
    zip file likewise. Names that begin with a dot are passed over.

    Raises:
        FileUnreadable: What a path names is not there, or cannot be read.
        PathOutside: A link leads out of the folder, or a name in a zip file out of that.
        StudyTooLarge, ImageTooLarge: Over one of the limits.
        ArchiveUnreadable: A zip file that cannot be used.
    """
    with ExitStack() as stack:
        files: list[StudyFile] = []
        total = 0
        given = [source] if isinstance(source, str | bytes | os.PathLike) else list(source)
        for one in given:
            for file in _files_of(one, limits, stack):
                files.append(file)
                total += file.size
                _check(file, len(files), total, limits)
        yield files


def _check(file: StudyFile, count: int, total: int, limits: Limits) -> None:
    if count > limits.files:
        raise StudyTooLarge(
            f"The study has more than {limits.files} files. Name the folder of one series, or "
            "raise the limit of files.",
            limit=limits.files,
        )
    if file.size > limits.file_bytes:
        raise ImageTooLarge(
            f"File {count} of the study has {file.size} bytes, and the limit is "
            f"{limits.file_bytes}. Raise file_bytes if you trust it.",
            bytes=file.size,
            limit=limits.file_bytes,
        )
    if total > limits.total_bytes:
        raise StudyTooLarge(
            f"The files of the study have more than {limits.total_bytes} bytes together. Name the "
            "folder of one series, or raise total_bytes.",
            limit=limits.total_bytes,
        )


def _files_of(one: One, limits: Limits, stack: ExitStack) -> Iterator[StudyFile]:
    if isinstance(one, bytes):
        if one.startswith(_ZIP):
            yield from _members(Archive(one, len(one), limits), stack)
        else:
            yield StudyFile(one, len(one))
        return
    with _told():
        path = Path(os.path.realpath(one))
        if path.is_dir():
            yield from _folder(path, limits.files)
            return
        file = _regular(path)
    if file.head(4) not in _ZIP:
        yield file
        return
    yield from _members(Archive(path, file.size, limits), stack)


def _members(archive: Archive, stack: ExitStack) -> Iterator[StudyFile]:
    members = stack.enter_context(archive)
    for name, size in sorted(members, key=lambda member: as_people_count(member[0])):
        if not name.rpartition("/")[2].startswith("."):
            yield StudyFile((archive, name), size)


def _folder(root: Path, most: int) -> Iterator[StudyFile]:
    found: list[Path] = []
    for folder, folders, names in os.walk(root, onerror=_raise):
        here = Path(folder)
        for name in folders + names:
            path = here / name
            if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(root):
                raise PathOutside(
                    "A link in the folder of the study leads out of it. Put the files themselves "
                    "there, or name where they are."
                )
        folders[:] = [name for name in folders if not name.startswith(".")]
        # What a link inside leads to is met where it is.
        found += [
            here / name
            for name in names
            if not name.startswith(".") and not (here / name).is_symlink()
        ]
        if len(found) > most:
            break
    for path in sorted(found, key=lambda path: as_people_count(str(path))):
        if stat.S_ISREG(path.lstat().st_mode):  # a pipe or device would block, or never end
            yield _regular(path)


def _raise(error: OSError) -> None:
    raise error


def _regular(path: Path) -> StudyFile:
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise FileUnreadable("The file cannot be read: it is not a regular file.")
    return StudyFile(path, status.st_size)


@contextmanager
def _told() -> Iterator[None]:
    """Trouble with the file system as an error that names no path."""
    try:
        yield
    except FileNotFoundError:
        reason = "it does not exist"
    except PermissionError:
        reason = "permission was denied"
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = f"the system answered {type(error).__name__}"
    else:
        return
    raise FileUnreadable(
        f"The study, or a file of it, cannot be read: {reason}. Check its path and permissions."
    ) from None
