"""Finding what is to be explained in the answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgemma_tasks.errors import (
    CharactersOutOfRange,
    KeywordNotInAnswer,
    KeywordNotInPrompt,
    TokenOutOfRange,
    TooManyTargets,
)
from medgemma_tasks.models import (
    AnswerTarget,
    CharactersTarget,
    EveryTokenTarget,
    KeywordTarget,
    PromptTarget,
    Span,
    Target,
    TokenTarget,
)
from medgemma_worker.answer import Answer, Words
from medgemma_worker.targets import find_keyword, find_target, find_targets

PIECES = ["The", " heart", ":", " a", " con", "solidation", ".", " A", " nodule", "."]


def answer() -> Answer:
    offsets, at = [], 0
    for piece in PIECES:
        offsets.append((at, at + len(piece)))
        at += len(piece)
    return Answer(text="".join(PIECES), thinking=None, first=20, offsets=tuple(offsets))


LABELS = [f"p{i}" for i in range(20)] + PIECES
IMAGES = [(4, 12)]


def test_a_keyword_of_several_tokens_is_the_span_of_them_all() -> None:
    span = find_target(
        KeywordTarget(keyword="consolidation"), answer(), labels=LABELS, images=IMAGES
    )
    assert span.token_positions == (24, 25)
    assert span.tokens == (" con", "solidation")
    assert span.text == "consolidation"


def test_case_does_not_matter_and_the_text_is_that_of_the_answer() -> None:
    span = find_target(KeywordTarget(keyword="NODULE"), answer(), labels=LABELS, images=IMAGES)
    assert span.text == "nodule"


def test_art_is_not_in_heart_unless_parts_of_words_are_asked_for() -> None:
    with pytest.raises(KeywordNotInAnswer, match="whole word"):
        find_keyword(KeywordTarget(keyword="art"), answer().text)
    assert find_keyword(KeywordTarget(keyword="art", whole_word=False), answer().text)[:2] == (6, 9)


def test_the_occurrence_asked_for_is_chosen_and_counted() -> None:
    span = find_target(
        KeywordTarget(keyword="a", occurrence=2), answer(), labels=LABELS, images=IMAGES
    )
    assert (span.text, span.occurrence, span.occurrences) == ("A", 2, 2)
    with pytest.raises(KeywordNotInAnswer, match=r"2 time\(s\)"):
        find_keyword(KeywordTarget(keyword="a", occurrence=3), answer().text)


def test_a_keyword_that_is_not_there_quotes_the_answer_and_keeps_it() -> None:
    with pytest.raises(KeywordNotInAnswer) as caught:
        find_keyword(KeywordTarget(keyword="effusion"), answer().text)
    assert answer().text in str(caught.value)
    assert caught.value.details["answer"] == answer().text


def test_a_keyword_of_white_space_alone_is_not_found() -> None:
    with pytest.raises(KeywordNotInAnswer):
        find_keyword(KeywordTarget(keyword="  "), answer().text)


def test_the_whole_answer_is_all_its_tokens() -> None:
    span = find_target(AnswerTarget(), answer(), labels=LABELS, images=IMAGES)
    assert span.token_positions == tuple(range(20, 30))
    assert (span.char_start, span.char_end) == (0, len(answer().text))


@pytest.mark.parametrize("position", [-1, 0, 30, 4, 11])
def test_positions_without_a_logit_are_refused(position: int) -> None:
    with pytest.raises(TokenOutOfRange) as caught:
        find_target(TokenTarget(position=position), answer(), labels=LABELS, images=IMAGES)
    assert caught.value.details["answer"] == answer().text


def test_a_token_of_the_prompt_has_no_place_in_the_answer() -> None:
    span = find_target(TokenTarget(position=12), answer(), labels=LABELS, images=IMAGES)
    assert span.char_start is None


def found(*targets: Target, prompt: tuple[Words, ...] = ()) -> list[Span]:
    return find_targets(targets, answer(), labels=LABELS, images=IMAGES, prompt=lambda: prompt)


def test_every_token_of_the_answer_is_a_target_of_its_own() -> None:
    spans = found(EveryTokenTarget())
    assert [span.token_positions for span in spans] == [(p,) for p in range(20, 30)]
    assert "".join(span.text for span in spans) == answer().text


def test_targets_come_in_the_order_in_which_they_were_asked_for() -> None:
    spans = found(KeywordTarget(keyword="nodule"), AnswerTarget(), TokenTarget(position=21))
    assert [span.kind for span in spans] == ["keyword", "answer", "token"]


def test_characters_are_the_tokens_that_gave_any_of_them() -> None:
    assert found(CharactersTarget(start=15, end=17))[0].token_positions == (24, 25)
    assert found(CharactersTarget())[0].text == answer().text
    with pytest.raises(CharactersOutOfRange):
        found(CharactersTarget(end=len(answer().text) + 1))


def test_a_word_of_the_prompt_is_counted_over_all_its_texts() -> None:
    texts = (
        Words(text="a film", first=1, offsets=((0, 1), (1, 6))),
        Words(text="a heart?", first=13, offsets=((0, 1), (1, 7), (7, 8))),
    )
    (span,) = found(PromptTarget(keyword="A", occurrence=2), prompt=texts)
    assert (span.kind, span.token_positions, span.occurrences) == ("prompt", (13,), 2)
    assert span.char_start is None
    with pytest.raises(KeywordNotInPrompt, match=r"2 time\(s\)"):
        found(PromptTarget(keyword="a", occurrence=3), prompt=texts)


def test_more_targets_than_a_job_may_have_are_refused_and_the_answer_kept() -> None:
    with pytest.raises(TooManyTargets) as caught:
        found(*[EveryTokenTarget()] * 52)
    assert caught.value.details["answer"] == answer().text


@given(st.text(max_size=12), st.text(max_size=60), st.booleans())
def test_a_found_keyword_is_the_text_between_its_offsets(
    keyword: str, text: str, whole: bool
) -> None:
    if not keyword:
        return
    target = KeywordTarget(keyword=keyword, whole_word=whole)
    try:
        start, end, count = find_keyword(target, text)
    except KeywordNotInAnswer:
        return
    assert 0 <= start < end <= len(text)
    assert count >= 1
