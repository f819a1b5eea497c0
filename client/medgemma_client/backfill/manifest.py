"""A manifest, row by row: CSV, JSON lines, Parquet, or whatever gives mappings."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from medgemma_client.backfill.fields import Columns, check_text, make_row
from medgemma_client.backfill.parquet import parquet_records
from medgemma_client.backfill.records import Record, csv_records, jsonl_records
from medgemma_client.backfill.rows import BadRow, Defaults, Row
from medgemma_tasks.errors import (
    FileUnreadable,
    ManifestUnusable,
    MedGemmaError,
    RowIncomplete,
    RowMalformed,
)

_HOPELESS = 100
"""Records of which none has the columns that all need; so many, and the manifest means something
else."""


def read_rows(
    source: str | os.PathLike[str] | Iterable[Mapping[str, Any]], defaults: Defaults | None = None
) -> Iterator[Row | BadRow]:
    """Each row of a manifest, or why it is none, in its order; memory does not grow with them.

    Args:
        source: A path, whose suffix says what it is: .csv, .jsonl (or .ndjson), .parquet; or the
            records themselves.
        defaults: What holds where a row does not say otherwise.

    Raises:
        ManifestUnusable: At the first row, or as soon as it shows.
        FileUnreadable, PartMissing: The file cannot be read at all.
    """
    defaults = defaults or Defaults()
    if isinstance(source, str | os.PathLike):
        yield from _file_rows(Path(source), defaults)
    else:
        yield from _loose_rows(_numbered(source), defaults)


def _file_rows(path: Path, defaults: Defaults) -> Iterator[Row | BadRow]:
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".jsonl", ".ndjson", ".parquet"):
        raise ManifestUnusable("A manifest's name ends in .csv, .jsonl or .parquet.")
    try:
        file = path.open("rb")
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise _unreadable(error) from None
    with file:
        try:
            if suffix == ".csv":
                yield from _table_rows(*csv_records(file), defaults)
            elif suffix == ".parquet":
                yield from _table_rows(*parquet_records(file), defaults)
            else:
                yield from _loose_rows(jsonl_records(file), defaults)
        except OSError as error:
            raise _unreadable(error) from None


def _table_rows(
    names: list[str], records: Iterable[Record], defaults: Defaults
) -> Iterator[Row | BadRow]:
    """Where all records have the same columns."""
    try:
        for name in names:
            check_text("name of a column", name)
    except RowMalformed as error:
        raise ManifestUnusable(error.message) from None
    columns = Columns.among(names, defaults)
    if lacking := columns.lacking(defaults):
        raise ManifestUnusable(f"The manifest has {lacking}.")
    for number, record in records:
        if isinstance(record, MedGemmaError):
            yield BadRow.of(number, None, record)
        else:
            yield make_row(number, record, columns, defaults)


def _loose_rows(records: Iterable[Record], defaults: Defaults) -> Iterator[Row | BadRow]:
    """Where each record has columns of its own."""
    names, columns = None, Columns.among((), defaults)
    lacking, hopeless = None, 0
    for number, record in records:
        if isinstance(record, MedGemmaError):
            yield BadRow.of(number, None, record)
            continue
        if names != (names := tuple(record)):
            columns = Columns.among(names, defaults)
        found = columns.lacking(defaults)
        if found is None:
            hopeless = -1
            yield make_row(number, record, columns, defaults)
            continue
        if hopeless >= 0:
            lacking, hopeless = lacking or found, hopeless + 1
            if hopeless > _HOPELESS:
                break
        yield BadRow.of(number, None, RowIncomplete(f"The row has {found}."))
    if hopeless > 0:
        raise ManifestUnusable(f"No row of the manifest can be asked: they have {lacking}.")


def _numbered(source: Iterable[Mapping[str, Any]]) -> Iterator[Record]:
    for number, record in enumerate(source, 1):
        if isinstance(record, Mapping) and all(isinstance(name, str) for name in record):
            yield number, record
        else:
            yield number, RowMalformed("The row is no mapping from names of columns.")


def _unreadable(error: Exception) -> FileUnreadable:
    return FileUnreadable(
        f"The manifest cannot be read ({type(error).__name__}). Check its path and permissions."
    )
