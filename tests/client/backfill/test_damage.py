"""Damaged manifests and any bytes at all: one bad row hides no other; what was written is read."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgemma_client.backfill.manifest import read_rows
from medgemma_client.backfill.records import MOST_LINE_BYTES
from medgemma_client.backfill.rows import BadRow, Row
from medgemma_tasks.errors import ManifestUnusable, error_classes

GOOD = "item,image,prompt\n"


def rows_of(data: bytes, tmp_path: Path, suffix: str = ".csv") -> list[Row | BadRow]:
    path = tmp_path / f"manifest{suffix}"
    path.write_bytes(data)
    return list(read_rows(path))


@pytest.mark.parametrize(
    ("bad", "numbers"),
    [
        (b"x,\xff\xfe.png,what\n", [3]),
        (b'x,"a.png,what\n', [3]),
        (b'x,"a"b.png,what\n', [3]),
        (b"x,a.png\n", [3]),
        (b"x,a.png,what,more\n", [3]),
        (b"x,a\0.png,what\n", [3]),
        (b"x,a.png," + b"y" * 140_000 + b"\n", [3]),
        (b"x,a.png," + b"y" * (MOST_LINE_BYTES + 1) + b"\n", [3]),
        (b'"' + b"\n" * 3_000, [3]),
        (b'x,"a\nb"c,what\n', [3, 4]),
        (b",a.png,what\n", [3]),
    ],
)
def test_a_bad_row_of_csv_is_named_by_its_line_and_hides_no_other(
    bad: bytes, numbers: list[int], tmp_path: Path
) -> None:
    rows = rows_of(GOOD.encode() + b"1,a.png,?\n" + bad + b"2,b.png,?\n", tmp_path)
    assert [row.number for row in rows if isinstance(row, BadRow)] == numbers
    assert [row.item for row in rows if isinstance(row, Row)] == ["1", "2"]
    assert {row.code for row in rows if isinstance(row, BadRow)} <= {
        "row_malformed",
        "row_incomplete",
    }


@pytest.mark.parametrize(
    "bad",
    [
        b"{",
        b"[1]",
        b"7",
        b"\xff",
        b'{"item":"x"}',
        b'{"item":"x","item":"y"}',
        b'{"item":"\\u0000","image":"a","prompt":"?"}',
        b"[" * 100_000,
        b"9" * 5_000,
        b"x" * (MOST_LINE_BYTES + 1),
    ],
)
def test_a_bad_line_of_json_is_named_and_hides_no_other(bad: bytes, tmp_path: Path) -> None:
    good = [json.dumps({"item": i, "image": "a.png", "prompt": "?"}).encode() for i in (1, 2)]
    rows = rows_of(good[0] + b"\n\n" + bad + b"\n" + good[1], tmp_path, ".jsonl")
    assert [type(row) for row in rows] == [Row, BadRow, Row]
    assert [row.number for row in rows] == [1, 3, 4]


@settings(max_examples=300, deadline=None)
@given(
    data=st.binary(max_size=400),
    suffix=st.sampled_from([".csv", ".jsonl", ".parquet"]),
    header=st.booleans(),
)
def test_any_bytes_are_rows_or_an_unusable_manifest(
    data: bytes, suffix: str, header: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    path.write_bytes(GOOD.encode() * header + data)
    try:
        for row in read_rows(path):
            assert isinstance(row, Row) or row.code in error_classes()
    except ManifestUnusable:
        pass


_CSV_NOISE = st.text(st.sampled_from('ab",\n\r;[]{}\0é\ud800'), max_size=60)


@settings(max_examples=300, deadline=None)
@given(noise=_CSV_NOISE)
def test_no_noise_before_a_row_hides_it_where_its_quotes_are_closed(
    noise: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.csv"
    data = f"{GOOD}{noise}\nlast,b.png,?\n".encode(errors="surrogatepass")
    path.write_bytes(data)
    last = list(read_rows(path))[-1]
    assert _read_so_by_python(data) <= isinstance(last, Row)


def _read_so_by_python(data: bytes) -> bool:
    """Whether Python's own reader, told nothing of recovery, finds the last row."""
    try:
        text = io.StringIO(data.decode(errors="surrogateescape"), newline="")
        return list(csv.reader(text, strict=True))[-1] == ["last", "b.png", "?"]
    except csv.Error:
        return False


_TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], include_characters="\t\n\r"),
    min_size=1,
    max_size=30,
).filter(lambda text: text.strip() and not text.startswith("["))
_NAME = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=20)
_ROWS = st.lists(
    st.builds(
        dict,
        item=_NAME,
        image=st.lists(_NAME, min_size=1, max_size=3),
        prompt=_TEXT,
        answer=st.none() | _TEXT,
        keyword=st.lists(_NAME, max_size=2),
        ward=_TEXT,
    ),
    max_size=8,
)


@settings(max_examples=150, deadline=None)
@given(records=_ROWS, suffix=st.sampled_from([".csv", ".jsonl"]))
def test_rows_that_were_written_are_read_again(
    records: list[dict[str, Any]], suffix: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / f"written{suffix}"
    with path.open("w", encoding="utf-8", newline="") as file:
        if suffix == ".jsonl":
            file.writelines(json.dumps(record) + "\n" for record in records)
        else:
            writer = csv.DictWriter(file, list(records[0]) if records else ["item"])
            writer.writeheader()
            writer.writerows(map(_flat, records))
    if not records:
        return
    read = list(read_rows(path))
    assert all(isinstance(row, Row) for row in read)
    assert list(map(_record, read)) == records


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    return {k: json.dumps(v) if isinstance(v, list) else v for k, v in record.items()}


def _record(row: Row) -> dict[str, Any]:
    return {
        "item": row.item,
        "image": [*row.images],
        "prompt": row.prompt,
        "answer": row.answer,
        "keyword": [*row.keyword],
        "ward": row.metadata["ward"],
    }
