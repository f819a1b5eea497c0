"""What is written on a command line is what the client is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from medgemma_cli.asking import parts_of, place_of, text_of
from medgemma_tasks.errors import FileUnreadable, InvalidRequest


def test_one_text_stays_a_text_and_several_are_parts_with_images_from_one() -> None:
    assert parts_of(["@1"]) == "@1"
    assert parts_of(["Before:", "@1", "@2", "mail @2"]) == ["Before:", 0, 1, "mail @2"]


@pytest.mark.parametrize(("said", "place"), [("3:9", (3, 9)), (":9", (0, 9)), ("3:", (3, None))])
def test_a_place_is_two_numbers_of_which_one_may_be_left_out(
    said: str, place: tuple[int, int | None]
) -> None:
    assert place_of(said) == place


@pytest.mark.parametrize("said", ["", ":", "5", "a:b", "-1:3", "1:2:3"])
def test_what_is_no_place_is_refused(said: str) -> None:
    with pytest.raises(InvalidRequest, match="FROM:TO"):
        place_of(said)


def test_an_answer_may_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "canary.txt"
    path.write_text("Clear lungs.")
    assert text_of(f"@{path}") == "Clear lungs."
    assert text_of("Clear.") == "Clear."
    path.unlink()
    with pytest.raises(FileUnreadable) as caught:
        text_of(f"@{path}")
    assert "canary" not in str(caught.value)
