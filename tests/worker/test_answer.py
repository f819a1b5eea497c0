"""Reading a generated answer: its text, its thinking block, and the characters of each token."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgemma_tasks.errors import EmptyAnswer
from medgemma_worker.answer import Answer, read_answer

PIECES = {1: "<eos>", 2: "<unused94>", 3: "<unused95>", 4: "thought", 5: "\n"}
WORDS = ["There", " is", " a", " con", "solidation", ".", " ", "\n", "é", "  double"]


def decode_pieces(pieces: Sequence[bytes]) -> str:
    return b"".join(pieces).decode(errors="replace")


def read(pieces: list[str], *, first: int = 10) -> Answer:
    table = [*PIECES.values()]
    ids = [table.index(p) + 1 if p in table else 100 + i for i, p in enumerate(pieces)]
    lookup = dict(zip(ids, pieces, strict=True))
    return read_answer(
        ids,
        first=first,
        decode=lambda some: "".join(lookup[i] for i in some),
        ends=frozenset({1}),
        thinking=(2, 3),
    )


def test_end_markers_are_no_part_of_the_answer() -> None:
    answer = read(["No", " focal", " abnormality", ".", "<eos>"])
    assert answer.text == "No focal abnormality."
    assert len(answer.offsets) == 4


def test_a_thinking_block_is_split_off_and_kept() -> None:
    answer = read(["<unused94>", "thought", "\n", "hm", "<unused95>", "A", " nodule", "<eos>"])
    assert answer.thinking == "hm"
    assert answer.text == "A nodule"
    assert answer.first == 15
    assert answer.span(2, 8) == (16,)


def test_an_unfinished_thinking_block_is_no_answer() -> None:
    with pytest.raises(EmptyAnswer, match="max_new_tokens"):
        read(["<unused94>", "thought", " and", " on"])


@pytest.mark.parametrize("pieces", [["<eos>"], [" ", "\n"], []])
def test_an_answer_of_nothing_is_an_error(pieces: list[str]) -> None:
    with pytest.raises(EmptyAnswer):
        read(pieces)


def test_outer_white_space_belongs_to_no_character() -> None:
    answer = read(["\n", " a", " nodule", " "])
    assert answer.text == "a nodule"
    assert answer.span(0, 8) == (11, 12)
    assert answer.span(0, 1) == (11,)


def test_white_space_before_the_answer_is_no_part_of_its_first_word() -> None:
    answer = read(["\n", "\n ", "Yes", " no", "<eos>"], first=300)
    assert answer.text == "Yes no"
    assert answer.span(0, 3) == (302,)
    assert answer.span(0, 6) == (302, 303)


def test_a_character_of_several_tokens_takes_all_of_them() -> None:
    pieces = [b"caf", b"\xc3", b"\xa9", b" au"]
    answer = read_answer(
        [100, 101, 102, 103],
        first=0,
        decode=lambda ids: decode_pieces([pieces[i - 100] for i in ids]),
        ends=frozenset(),
        thinking=(None, None),
    )
    assert answer.text == "café au"
    assert answer.span(0, 4) == (0, 1, 2)


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=12))
def test_every_character_belongs_to_a_token_that_gave_it(pieces: list[str]) -> None:
    full = "".join(pieces)
    if not full.strip():
        return
    answer = read(pieces)
    lead = len(full) - len(full.lstrip())
    at = 0
    for i, piece in enumerate(pieces):
        for k in range(len(piece)):
            char = at + k - lead
            if 0 <= char < len(answer.text):
                assert answer.first + i in answer.span(char, char + 1)
        at += len(piece)
