"""A manifest in Parquet as records, batch by batch. pyarrow is imported late."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any, BinaryIO

from medgemma_client.backfill.records import Record
from medgemma_tasks.errors import ManifestUnusable, PartMissing, RowMalformed

_BATCH = 256
"""Rows that are in memory at once, beside the pages that they stand in."""


def parquet_records(file: BinaryIO) -> tuple[list[str], Iterator[Record]]:
    """The columns, and the rows by their number from 1. Raises ManifestUnusable, PartMissing."""
    if importlib.util.find_spec("pyarrow") is None:
        raise PartMissing(
            "The manifest is Parquet, and the package that reads it is not installed. "
            'Run: pip install "medgemma-explainer[parquet]"; or save the manifest as CSV.'
        )
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        # pre_buffer would hold whole groups of rows, which may be the whole file.
        table = ParquetFile(file, pre_buffer=False)
        columns = list(table.schema_arrow.names)
    except (pyarrow.ArrowException, OSError, ValueError):
        raise ManifestUnusable(
            "The manifest is no Parquet file, or damaged. Write it again."
        ) from None
    if len(set(columns)) != len(columns):
        raise ManifestUnusable("The manifest names a column twice.")
    return columns, _rows(table)


def _rows(table: Any) -> Iterator[Record]:
    number = 1
    for group in range(table.num_row_groups):
        after = number + table.metadata.row_group(group).num_rows
        try:
            for batch in table.iter_batches(_BATCH, row_groups=[group], use_threads=False):
                for at in range(batch.num_rows):
                    yield number, _row(batch, at)
                    number += 1
        except (OSError, ValueError):  # pyarrow's errors are kinds of these two
            yield (
                number,
                RowMalformed(
                    f"Rows {number} to {after - 1} of the manifest cannot be read: the file is "
                    "damaged there. Write it again."
                ),
            )
        number = after


def _row(batch: Any, at: int) -> dict[str, Any] | RowMalformed:
    try:
        found: dict[str, Any] = batch.slice(at, 1).to_pylist()[0]
    except (ValueError, OverflowError):  # text that is no UTF-8, a moment that is none
        return RowMalformed("The row has a field that cannot be read. Write it as UTF-8 text.")
    return found
