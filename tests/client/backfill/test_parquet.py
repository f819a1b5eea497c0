"""A manifest in Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medgemma_client.backfill.manifest import read_rows
from medgemma_client.backfill.rows import BadRow, Row
from medgemma_tasks.errors import ManifestUnusable

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def written(tmp_path: Path, columns: dict[str, Any], **options: Any) -> Path:
    path = tmp_path / "manifest.parquet"
    parquet.write_table(pyarrow.table(columns), path, **options)
    return path


def test_its_rows_may_hold_lists_numbers_and_nothing(tmp_path: Path) -> None:
    columns = {
        "item": [1, 2, None],
        "images": [["a.png", "b.png"], ["c.png"], ["d.png"]],
        "prompt": ["one?", None, "three?"],
        "age": [1.5, None, 3.0],
    }
    first, *bad = read_rows(written(tmp_path, columns))
    assert isinstance(first, Row)
    assert (first.number, first.item, first.images) == (1, "1", ("a.png", "b.png"))
    assert (first.prompt, first.metadata) == ("one?", {"age": "1.5"})
    assert [(row.number, row.code) for row in bad if isinstance(row, BadRow)] == [
        (2, "row_incomplete"),
        (3, "row_incomplete"),
    ]


def test_a_text_that_is_no_utf_8_refuses_its_row_alone(tmp_path: Path) -> None:
    prompts = pyarrow.array([b"one?", b"\xff", b"three?"], pyarrow.binary()).view(pyarrow.string())
    columns = {"item": ["1", "2", "3"], "image": ["a", "b", "c"], "prompt": prompts}
    rows = list(read_rows(written(tmp_path, columns)))
    assert [type(row) for row in rows] == [Row, BadRow, Row]


def test_groups_of_rows_that_are_damaged_hide_no_other(tmp_path: Path) -> None:
    count = 3_000
    texts = {name: [f"{name}-{i}" for i in range(count)] for name in ("item", "image", "prompt")}
    path = written(tmp_path, texts, row_group_size=1_000, use_dictionary=False, compression="zstd")
    data = bytearray(path.read_bytes())
    group = parquet.ParquetFile(path).metadata.row_group(1).column(2)
    start = group.data_page_offset
    data[start : start + group.total_compressed_size] = b"\xff" * group.total_compressed_size
    path.write_bytes(data)
    rows = list(read_rows(path))
    good = [row.number for row in rows if isinstance(row, Row)]
    bad = [row for row in rows if isinstance(row, BadRow)]
    assert [row.code for row in bad] == ["row_malformed"]
    assert f"Rows {bad[0].number} to 2000" in bad[0].message
    assert [n for n in good if n <= 1_000 or n > 2_000] == [*range(1, 1_001), *range(2_001, 3_001)]


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" * 100, b"item,image,prompt\n"])
def test_what_is_no_parquet_is_an_unusable_manifest(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "manifest.parquet"
    path.write_bytes(data)
    with pytest.raises(ManifestUnusable):
        list(read_rows(path))


def test_a_needed_column_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestUnusable, match='"images"'):
        list(read_rows(written(tmp_path, {"item": ["1"], "prompt": ["?"]})))
