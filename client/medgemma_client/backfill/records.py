"""A manifest file as records, one after the other, in memory that does not grow with the file.

What cannot be taken apart is told in its place, and reading goes on at the next line.
"""

from __future__ import annotations

import csv
import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeAlias

from medgemma_tasks.errors import ManifestUnusable, RowMalformed

Record: TypeAlias = tuple[int, Mapping[str, Any] | RowMalformed]
"""The number of its line, and its fields by column."""

MOST_LINE_BYTES = 4 * 2**20
"""Of a line of JSON, and of a row of CSV: three texts of the greatest length, each character of
them escaped, and some space for the rest."""
MOST_LINES = 1_000
"""Of a row of CSV, whose quoted fields may hold line breaks."""

_BOM = b"\xef\xbb\xbf"
_OTHER_ENCODINGS = (b"\xff\xfe", b"\xfe\xff", b"\0")
"""How UTF-16 and UTF-32 begin."""


@dataclass
class _Lines:
    """The lines of a file, of which some can be put back."""

    file: BinaryIO
    number: int = 0
    back: deque[tuple[int, bytes | None]] = field(default_factory=deque)

    def take(self) -> tuple[int, bytes | None] | None:
        """The next line and its number, from 1; None in place of one that is too long."""
        if self.back:
            return self.back.popleft()
        line = self.file.readline(MOST_LINE_BYTES + 1)
        if not line:
            return None
        self.number += 1
        if self.number == 1:
            if line.startswith(_OTHER_ENCODINGS):
                raise ManifestUnusable(
                    "The manifest is no UTF-8 text. Save it again as UTF-8 (spreadsheets call it "
                    '"CSV UTF-8").'
                )
            line = line.removeprefix(_BOM)
        if len(line) <= MOST_LINE_BYTES:
            return self.number, line
        while line and not line.endswith(b"\n"):
            line = self.file.readline(MOST_LINE_BYTES)
        return self.number, None


def jsonl_records(file: BinaryIO) -> Iterator[Record]:
    """One JSON object a line; empty lines are passed over. Raises ManifestUnusable."""
    lines = _Lines(file)
    while (taken := lines.take()) is not None:
        number, line = taken
        if line is None:
            yield number, _too_long()
        elif line.strip():
            yield number, _json_object(line)


def _json_object(line: bytes) -> dict[str, Any] | RowMalformed:
    try:
        # Not the bytes, which json would also take as UTF-16.
        found = json.loads(line.decode(), object_pairs_hook=_once)
    except UnicodeDecodeError:
        return RowMalformed("The line is not UTF-8 throughout. Save the manifest as UTF-8.")
    except (ValueError, RecursionError):
        return RowMalformed("The line is no JSON, or names a field twice. Write one object a line.")
    if isinstance(found, dict):
        return found
    return RowMalformed("The line is JSON, but no object. Write it as {...}.")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field is named twice")
    return found


def csv_records(file: BinaryIO) -> tuple[list[str], Iterator[Record]]:
    """The header's columns, and the rows, separated by commas and quoted by ``"``.

    Bytes that are no UTF-8 stand in a field as surrogates. Raises ManifestUnusable.
    """
    lines = _Lines(file)
    header = _csv_row(lines)
    while header is not None and header[1] == []:
        header = _csv_row(lines)
    if header is None:
        raise ManifestUnusable("The manifest is empty; its first line must name the columns.")
    if isinstance(header[1], RowMalformed):
        raise ManifestUnusable(f"The first line must name the columns. {header[1].message}")
    columns = [name.strip() for name in header[1]]
    named = [name for name in columns if name]
    if len(set(named)) != len(named):
        raise ManifestUnusable("The manifest's first line names a column twice.")
    return columns, _csv_rows(lines, columns)


def _csv_rows(lines: _Lines, columns: list[str]) -> Iterator[Record]:
    while (row := _csv_row(lines)) is not None:
        number, fields = row
        if isinstance(fields, RowMalformed):
            yield number, fields
        elif len(fields) == len(columns):
            yield number, dict(zip(columns, fields, strict=True))
        elif fields:
            yield (
                number,
                RowMalformed(
                    f"The row has {len(fields)} fields and the header {len(columns)}. A field that "
                    "holds a comma must be quoted."
                ),
            )


def _csv_row(lines: _Lines) -> tuple[int, list[str] | RowMalformed] | None:
    """The fields of the next row and the number of its first line; none of an empty line.

    Where a row cannot be taken apart, only its first line is used up: a quote that nobody closes
    must not take all that follow along.
    """
    taken: list[tuple[int, bytes | None]] = []
    try:
        fields = next(csv.reader(_decoded(lines, taken), strict=True))
    except StopIteration:
        return None
    except (csv.Error, RowMalformed) as error:
        lines.back.extendleft(reversed(taken[1:]))
        if not isinstance(error, RowMalformed):
            error = RowMalformed(
                "The row cannot be taken apart: a quote is not closed or stands within a field "
                "without being doubled, or a field is too long."
            )
        return taken[0][0], error
    return taken[0][0], fields


def _decoded(lines: _Lines, taken: list[tuple[int, bytes | None]]) -> Iterable[str]:
    size = 0
    while (line := lines.take()) is not None:
        taken.append(line)
        size += MOST_LINE_BYTES + 1 if line[1] is None else len(line[1])
        if line[1] is None or size > MOST_LINE_BYTES or len(taken) > MOST_LINES:
            raise _too_long()
        yield line[1].decode(errors="surrogateescape")


def _too_long() -> RowMalformed:
    return RowMalformed(
        f"The row has more than {MOST_LINE_BYTES} bytes or {MOST_LINES} lines. Perhaps a quote is "
        "not closed."
    )
