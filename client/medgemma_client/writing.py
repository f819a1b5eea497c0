"""Files that a user asked for: written whole or not at all, and no path of theirs is told."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medgemma_client.whole import whole_file
from medgemma_tasks.errors import FileUnwritable


def make_folder(folder: str | os.PathLike[str]) -> Path:
    """Make a folder and try whether it can be written. Raises FileUnwritable."""
    with writing():
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=target).close()  # permissions do not tell: root, read-only disks
    return target


def write_file(path: Path, content: bytes) -> Path:
    """Write a file, which appears whole or not at all. Raises FileUnwritable."""
    with writing(), whole_file(path) as file:
        file.write(content)
    return path


def remove_files(folder: Path, names: re.Pattern[str]) -> None:
    """Remove the files of such names from a folder. Raises FileUnwritable."""
    with writing():
        for path in folder.iterdir():
            if names.fullmatch(path.name):
                path.unlink()


@contextmanager
def writing() -> Iterator[None]:
    """What the system says within becomes FileUnwritable."""
    try:
        yield
    except OSError as error:
        # No path: its name may be a patient's.
        why = error.strerror or type(error).__name__
        raise FileUnwritable(
            f"The result cannot be written there ({why}); choose another place."
        ) from None
