"""From a manifest to rows: what each column means, and that one bad row stops no other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from medgemma_client.backfill.manifest import read_rows
from medgemma_client.backfill.rows import BadRow, Defaults, Row
from medgemma_tasks.errors import FileUnreadable, ManifestUnusable, PartMissing, error_classes

GOOD = "item,image,prompt\n"


def rows_of(text: str | bytes, tmp_path: Path, suffix: str = ".csv", **said: Any) -> list[Any]:
    path = tmp_path / f"manifest{suffix}"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return list(read_rows(path, Defaults(**said)))


def row_of(record: Mapping[str, Any], **said: Any) -> Row:
    (row,) = read_rows([{"item": "a", "image": "a.png", "prompt": "?"} | record], Defaults(**said))
    assert isinstance(row, Row), row.message
    return row


def refusal_of(record: Mapping[str, Any], **said: Any) -> BadRow:
    (row,) = read_rows([{"item": "a", "image": "a.png", "prompt": "?"} | record], Defaults(**said))
    assert isinstance(row, BadRow)
    return row


def test_a_csv_row_has_an_item_images_a_prompt_and_whatever_else_is_metadata(
    tmp_path: Path,
) -> None:
    text = 'Item,images,prompt,Ward\ncase-1,a.png; b/,"What, if\nanything?",7\n'
    (row,) = rows_of(text, tmp_path)
    assert (row.number, row.item, row.images) == (2, "case-1", ("a.png", "b/"))
    assert (row.prompt, row.metadata) == ("What, if\nanything?", {"Ward": "7"})


def test_a_json_row_says_the_same_with_lists(tmp_path: Path) -> None:
    line = {"id": 7, "images": ["a;b.png", "c.png"], "prompt": ["Was:", "@1", "Is:", 1, "?"]}
    (row,) = rows_of(json.dumps(line | {"n": 1.5, "x": None}), tmp_path, ".jsonl")
    assert (row.number, row.item, row.images) == (1, "7", ("a;b.png", "c.png"))
    assert row.prompt == ("Was:", 0, "Is:", 1, "?")
    assert row.metadata == {"n": "1.5", "x": ""}


def test_a_field_of_csv_may_be_a_list_in_json(tmp_path: Path) -> None:
    text = 'item,image,prompt,target\n1,"[""a;b.png""]","[""A"",0]","[""keyword:x"",""token:3""]"\n'
    (row,) = rows_of(text, tmp_path)
    assert (row.images, row.prompt) == (("a;b.png",), ("A", 0))
    assert (row.keyword, row.token) == (("x",), 3)


def test_an_empty_field_takes_the_default(tmp_path: Path) -> None:
    text = "item,image,prompt,answer,priority\n1,a.png,,,\n2,a.png,own,said,interactive\n"
    first, second = rows_of(text, tmp_path, prompt="all", answer="given", keyword=("k",))
    assert (first.prompt, first.answer, first.priority) == ("all", "given", "batch")
    assert (second.prompt, second.answer, second.priority) == ("own", "said", "interactive")
    assert first.keyword == second.keyword == ("k",)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("answer", {}),
        ("every-token", {"every_token": True}),
        ("keyword:left lung", {"keyword": ("left lung",)}),
        ("keyword:a:b", {"keyword": ("a:b",)}),
        ("prompt:effusion", {"prompt_words": ("effusion",)}),
        ("characters:3:9", {"characters": (3, 9)}),
        ("characters:3:", {"characters": (3, None)}),
        ("token:12", {"token": 12}),
        (["keyword:a", "keyword:b", "prompt:c"], {"keyword": ("a", "b"), "prompt_words": ("c",)}),
    ],
)
def test_a_target_of_its_own_stands_for_all_that_were_given_for_every_row(
    target: object, expected: dict[str, Any]
) -> None:
    row = row_of({"target": target}, keyword=("default",), every_token=True)
    plain = {"keyword": (), "characters": None, "token": None, "prompt_words": ()}
    found = {name: getattr(row, name) for name in [*plain, "every_token"]}
    assert found == plain | {"every_token": False} | expected


@pytest.mark.parametrize(
    "target",
    [
        "lung",
        "token:",
        "token:-1",
        "characters::",
        "characters:3",
        "every-token:x",
        "answer:x",
        ["answer", "keyword:a"],
        ["token:1", "token:2"],
    ],
)
def test_what_is_no_target_is_refused(target: object) -> None:
    assert refusal_of({"target": target}).code == "invalid_request"


@pytest.mark.parametrize(
    ("record", "code"),
    [
        ({"item": ""}, "row_incomplete"),
        ({"item": None}, "row_incomplete"),
        ({"image": " ; "}, "row_incomplete"),
        ({"prompt": float("nan")}, "row_incomplete"),
        ({"item": True}, "row_malformed"),
        ({"item": 1.5}, "row_malformed"),
        ({"item": "a\nb"}, "row_malformed"),
        ({"item": "a" * 201}, "row_malformed"),
        ({"image": 7}, "row_malformed"),
        ({"image": ["a.png", 7]}, "row_malformed"),
        ({"image": "a\n.png"}, "row_malformed"),
        ({"image": "a\0.png"}, "row_malformed"),
        ({"prompt": {"a": 1}}, "row_malformed"),
        ({"prompt": "a\x1b[2J"}, "row_malformed"),
        ({"prompt": "a" * 100_001}, "row_malformed"),
        ({"prompt": "half \ud83d"}, "row_malformed"),
        ({"prompt": [0, 1]}, "empty_prompt"),
        ({"prompt": ["a", 1, 0]}, "invalid_request"),
        ({"prompt": ["a", True]}, "row_malformed"),
        ({"answer": ["a"]}, "row_malformed"),
        ({"priority": "soon"}, "invalid_request"),
        ({"target": "token:0"}, "token_out_of_range"),
        ({"keyword": "x" * 1001}, "invalid_request"),
        ({"ward": "\x07"}, "row_malformed"),
        ({"ward\x07": "a"}, "row_malformed"),
    ],
)
def test_a_field_that_cannot_be_used_refuses_its_row_by_a_code_and_quotes_nothing(
    record: dict[str, Any], code: str
) -> None:
    refused = refusal_of(record)
    assert (refused.number, refused.code) == (1, code)
    assert refused.item == (None if "item" in record else "a")
    assert refused.code in error_classes()
    assert not any(str(v) in refused.message for v in record.values() if len(str(v)) > 20)


def test_a_file_from_a_spreadsheet_begins_with_a_mark_and_ends_lines_its_own_way(
    tmp_path: Path,
) -> None:
    (row,) = rows_of(b"\xef\xbb\xbfitem,image,prompt\r\n\r\n1,a.png,?\r\n", tmp_path)
    assert (row.number, row.item, row.prompt) == (3, "1", "?")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("image,prompt\na.png,?\n", '"item"'),
        ("item,prompt\n1,?\n", '"images"'),
        ("item,image\n1,a.png\n", '"prompt"'),
        ("item,item,image,prompt\n", "twice"),
        ("item;image;prompt\n1;a.png;?\n", '"item"'),
        ("item,image,prompt".encode("utf-16"), "UTF-8"),
        ('item,image,"prompt\n', "quote"),
        ("item,image,prompt,\x07\n1,a.png,?,x\n", "U+0007"),
    ],
)
def test_a_manifest_without_a_needed_column_is_refused_and_says_which(
    text: str | bytes, said: str, tmp_path: Path
) -> None:
    with pytest.raises(ManifestUnusable, match=said.replace("+", r"\+")):
        rows_of(text, tmp_path)


def test_json_lines_of_which_none_has_a_needed_column_are_refused_before_long(
    tmp_path: Path,
) -> None:
    with pytest.raises(ManifestUnusable, match='"item"'):
        rows_of('{"image": "a.png", "prompt": "?"}', tmp_path, ".jsonl")
    seen = []
    with pytest.raises(ManifestUnusable):
        seen.extend(read_rows({"x": "y"} for _ in iter(int, 1)))  # without end


def test_one_json_line_that_has_the_columns_keeps_the_others_rows(tmp_path: Path) -> None:
    lines = [{"x": 1}] * 50 + [{"item": 1, "image": "a.png", "prompt": "?"}] + [{"x": 1}] * 500
    rows = rows_of("\n".join(map(json.dumps, lines)), tmp_path, ".jsonl")
    assert [row.code for row in rows if isinstance(row, BadRow)] == ["row_incomplete"] * 550


def test_columns_may_be_called_as_the_caller_likes(tmp_path: Path) -> None:
    text = "Accession,frontal,lateral,id,prompt\n1,f.png,l.png,9,?\n"
    said = {"item_column": "Accession", "image_columns": ("lateral", "frontal")}
    (row,) = rows_of(text, tmp_path, **said)
    assert (row.item, row.images, row.metadata) == ("1", ("l.png", "f.png"), {"id": "9"})
    with pytest.raises(ManifestUnusable, match='"lateral" and "frontal"'):
        rows_of(text.replace("lateral", "side"), tmp_path, **said)


def test_what_is_no_manifest_by_its_name_or_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ManifestUnusable, match="csv"):
        rows_of("", tmp_path, ".xlsx")
    with pytest.raises(FileUnreadable) as told:
        list(read_rows(tmp_path / "jane-doe.csv"))
    assert "jane" not in told.value.message


def test_a_record_that_is_no_mapping_is_refused_and_the_next_is_read() -> None:
    good = {"item": "a", "image": Path("a.png"), "prompt": "?"}
    rows = list(read_rows([7, {1: 2}, good]))  # type: ignore[list-item]
    assert [type(row) for row in rows] == [BadRow, BadRow, Row]


def test_a_row_that_was_changed_is_another_and_one_that_was_moved_is_not() -> None:
    first, moved = read_rows([{"item": "a", "image": "a", "prompt": "?", "m": "1"}] * 2)
    assert isinstance(first, Row)
    assert isinstance(moved, Row)
    assert first.fingerprint() == moved.fingerprint()
    changed = [{"m": "2"}, {"prompt": "!"}, {"target": "token:1"}, {"priority": "interactive"}]
    prints = {row_of({"image": "a", "m": "1"} | change).fingerprint() for change in changed}
    assert len(prints | {first.fingerprint()}) == 5


def test_no_row_shows_what_it_holds() -> None:
    assert "secret" not in repr(row_of({"prompt": "secret", "ward": "secret"}))
    assert "secret" not in repr(refusal_of({"item": "secret", "priority": "x"}))


def test_rows_are_given_as_they_come_and_none_is_asked_for_in_advance() -> None:
    asked = []

    def records() -> Iterator[dict[str, str]]:
        for number in range(3):
            asked.append(number)
            yield {"item": str(number), "image": "a", "prompt": "?"}

    rows = read_rows(records())
    next(rows)
    assert asked == [0]


def test_a_parquet_manifest_needs_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PartMissing, match="parquet"):
        rows_of(b"PAR1", tmp_path, ".parquet")
