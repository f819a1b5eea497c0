"""What a run leaves in its folder: summary.json, results.csv, failures.csv. Each appears whole or
not at all."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Self

from medgemma_client.backfill.item import Item, RowState
from medgemma_client.whole import whole_file
from medgemma_client.writing import make_folder
from medgemma_tasks.errors import FileUnwritable, RunUnderWay

Items = Callable[[], Iterator[Item]]
"""All rows, in order; asked for more than once, since no memory holds them."""

RESULTS = ("item", "job", "state", "answer", "peak", "path")
FAILURES = ("item", "job", "row", "state", "code", "cause")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""With these a field begins that a spreadsheet takes for a formula."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Folder:
    """Context manager: the folder of a run, which one process at a time works in.

    Raises FileUnwritable, RunUnderWay.
    """

    def __init__(self, folder: Path, run: str, *, resume: bool = True) -> None:
        """``resume``: False forgets what its journal says."""
        self._folder, self._run, self._resume = folder, run, resume
        self.journal = folder / "journal.sqlite"
        self._handle = -1

    def __enter__(self) -> Self:
        make_folder(self._folder)
        with _told():
            self._handle = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._handle)
            raise RunUnderWay(
                f"Another process works on run {self._run} in the same folder. Wait for it, or end "
                "it first."
            ) from None
        if not self._resume:
            for suffix in ("", "-wal", "-shm"):
                Path(f"{self.journal}{suffix}").unlink(missing_ok=True)
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._handle)  # the lock goes with it, also when the process is killed


def write_results(folder: Path, items: Items, prefix: Callable[[str], str]) -> None:
    """results.csv and failures.csv. ``prefix``: where a job's artifacts lie in the store."""
    columns: dict[str, None] = {}
    for item in items():
        columns.update(dict.fromkeys(item.metadata))
    with _whole(folder / "results.csv") as file:
        writer = csv.writer(file)
        writer.writerow([*RESULTS, *(safe(_column(name)) for name in columns)])
        for item in items():
            job = item.job_id
            path = prefix(job) if job and item.state is RowState.SUCCEEDED else None
            own = (item.item, job, item.state.value, item.answer, item.peak, path)
            writer.writerow(map(safe, (*own, *map(item.metadata.get, columns))))
    with _whole(folder / "failures.csv") as file:
        writer = csv.writer(file)
        writer.writerow(FAILURES)
        for item in items():
            if item.state.ended and item.state is not RowState.SUCCEEDED:
                said = (item.item, item.job_id, str(item.number), item.state.value)
                writer.writerow(map(safe, (*said, item.code, item.message)))


def write_summary(folder: Path, summary: Mapping[str, Any]) -> None:
    with _whole(folder / "summary.json") as file:
        file.write(json.dumps(summary, indent=2) + "\n")


def safe(field: str | None) -> str:
    """A field that no program takes for more than a text: control characters are spelt out, and
    where it looks like a formula a ' goes before it."""
    text = _CONTROL.sub(_spelt, field or "")
    # By how it began: what is spelt out now may have been a tab.
    return f"'{text}" if (field or "").startswith(_FORMULA) else text


def _spelt(match: re.Match[str]) -> str:
    character = match[0]
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return named.get(character) or (
        f"\\x{ord(character):02x}" if character < "\x80" else f"\\u{ord(character):04x}"
    )


def _column(name: str) -> str:
    """A column of the manifest's, which must not be taken for one of ours."""
    return f"manifest_{name}" if name in RESULTS else name


@contextmanager
def _whole(path: Path) -> Iterator[IO[str]]:
    with _told(), whole_file(path, durable=True) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        try:
            yield text
        finally:
            text.detach()  # the file is closed by whoever opened it


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # No path: its name may be a patient's.
        why = error.strerror or type(error).__name__
        raise FileUnwritable(
            f"The files of the run cannot be written ({why}). Make room, and start it again: it "
            "goes on where it stopped."
        ) from None
