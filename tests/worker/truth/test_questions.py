"""Phantoms in a fixed order, and questions from a file, with errors that quote nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from medgemma_tasks.errors import FileUnreadable, InvalidRequest
from medgemma_worker.phantom.images import KINDS
from medgemma_worker.truth.questions import from_lines, phantoms, read_lines


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    return tmp_path


def written(folder: Path, *lines: str) -> Path:
    path = folder / "questions.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_phantoms_come_with_every_kind_and_their_lesion() -> None:
    asked = list(phantoms(8))
    assert {question.keyword for question in asked} == set(KINDS)
    assert all(question.lesion is not None and question.lesion.any() for question in asked)
    assert [q.prompt for q in asked] == [q.prompt for q in phantoms(8)]


def test_a_line_is_read_and_its_image_is_sought_beside_the_file(folder: Path) -> None:
    line = {"image": "a.png", "prompt": "What?", "keyword": "nodule"}
    lines = read_lines(written(folder, json.dumps(line), "", ""))
    (question,) = from_lines(lines, folder, Image.open)
    assert (question.prompt, question.keyword, question.lesion) == ("What?", "nodule", None)
    assert question.image.size == (8, 8)


@pytest.mark.parametrize(
    "line",
    [
        "{",
        '{"image": "a.png"}',
        '{"image": "a.png", "prompt": "canary", "keywrod": "canary"}',
        "[]",
    ],
)
def test_a_bad_line_is_told_by_its_number(folder: Path, line: str) -> None:
    good = '{"image": "a.png", "prompt": "What?"}'
    with pytest.raises(InvalidRequest, match="Line 2") as caught:
        read_lines(written(folder, good, line))
    assert "canary" not in caught.value.message


def test_an_image_that_is_not_there_is_found_before_anything_runs(folder: Path) -> None:
    with pytest.raises(FileUnreadable, match="Line 1") as caught:
        read_lines(written(folder, '{"image": "canary.png", "prompt": "What?"}'))
    assert "canary" not in caught.value.message


def test_no_file_and_no_question_are_errors_of_ours(folder: Path) -> None:
    with pytest.raises(FileUnreadable):
        read_lines(folder / "none.jsonl")
    with pytest.raises(InvalidRequest, match="no question"):
        read_lines(written(folder, ""))
