"""A file that is there whole or not at all, and of which a kill leaves nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO

_DESCRIPTORS = "/proc/self/fd"


@contextmanager
def whole_file(path: Path, *, durable: bool = False) -> Iterator[BinaryIO]:
    """What is written comes to stand under ``path`` when the context ends without an error;
    ``durable``: on the disk, so that it outlives a power cut, too.

    Until then it has no name, where the system can do that (Linux, on most file systems): it is
    a patient's, and who is killed cannot clean up. Elsewhere it has one that begins with a dot.
    Raises OSError.
    """
    temporary = path.with_name(f".{path.name}.{token_hex(4)}")
    file = _nameless(path.parent)
    named = file is None
    if file is None:
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        file = os.fdopen(handle, "w+b")
    try:
        with file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
            if not named:
                _name(file, temporary)
        temporary.replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise


def _nameless(folder: Path) -> BinaryIO | None:
    try:
        handle = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o666)
    except (AttributeError, OSError):  # another system; another file system; or no such folder
        return None
    if not os.path.exists(f"{_DESCRIPTORS}/{handle}"):
        os.close(handle)
        return None
    return os.fdopen(handle, "w+b")


def _name(file: BinaryIO, path: Path) -> None:
    # A folder given, whichever, has Python call linkat, which alone follows to the file.
    folder = os.open(_DESCRIPTORS, os.O_RDONLY)
    try:
        os.link(str(file.fileno()), path, src_dir_fd=folder, follow_symlinks=True)
    finally:
        os.close(folder)
