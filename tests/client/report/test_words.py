"""The answer cut into words to choose, and what stands beside them."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from medgemma_client.report.words import choices
from medgemma_tasks.models import Span

ANSWER = "A small consolidation in the right zone."


def token(position: int, start: int, end: int, text: str = ANSWER) -> Span:
    return Span(
        kind="token",
        text=text[start:end],
        token_positions=(position,),
        tokens=(text[start:end],),
        char_start=start,
        char_end=end,
    )


def phrase(text: str, *positions: int, kind: str = "keyword") -> Span:
    start = ANSWER.index(text)
    return Span(
        kind=kind,  # type: ignore[arg-type]
        text=text,
        token_positions=positions,
        tokens=(text,) * len(positions),
        char_start=start,
        char_end=start + len(text),
    )


def words_of(*spans: Span) -> dict[str, tuple[int, ...]]:
    return {word.text: word.targets for word in choices(ANSWER, spans).words if word.targets}


def test_tokens_that_touch_are_one_word() -> None:
    assert words_of(token(3, 0, 1), token(4, 1, 7), token(5, 7, 14), token(6, 14, 21)) == {
        "A": (0,),
        "small": (1,),
        "consolidation": (2, 3),
    }


def test_a_phrase_that_is_one_token_is_that_word_and_no_second_choice() -> None:
    spans = (phrase("consolidation", 5), token(4, 1, 7), token(5, 7, 21), token(6, 21, 24))
    assert words_of(*spans) == {"small": (1,), "consolidation": (0,), "in": (3,)}
    assert choices(ANSWER, spans).others == []


def test_a_phrase_across_tokens_stands_beside_them() -> None:
    whole = (phrase("consolidation", 5, 6), token(5, 7, 14), token(6, 14, 21))
    assert words_of(*whole) == {"consolidation": (1, 2)}
    assert choices(ANSWER, whole).others == [0]


def test_a_part_of_a_token_stands_beside_it() -> None:
    spans = (phrase("solid", 5), token(5, 7, 21))
    assert words_of(*spans) == {"consolidation": (1,)}
    assert choices(ANSWER, spans).others == [0]


def test_a_phrase_asked_for_twice_is_chosen_once_as_a_word() -> None:
    spans = (phrase("small", 4), phrase("small", 4), token(4, 1, 7))
    assert words_of(*spans) == {"small": (0,)}
    assert choices(ANSWER, spans).others == [1]


@given(st.text(max_size=40), st.data())
def test_words_add_up_to_the_answer_and_each_token_can_be_chosen_once(
    answer: str, data: st.DataObject
) -> None:
    cuts = data.draw(st.sets(st.integers(0, len(answer)), max_size=8))
    edges = sorted(cuts | {0, len(answer)})
    spans = [token(100 + k, start, end, answer) for k, (start, end) in enumerate(pairwise(edges))]
    found = choices(answer, spans)
    assert "".join(word.text for word in found.words) == answer
    chosen = [k for word in found.words for k in word.targets] + found.others
    assert sorted(chosen) == list(range(len(spans)))
