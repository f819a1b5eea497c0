"""What a caller says: whatever cannot be used is an error of ours, before anything is written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medgemma_client.question import Wanted, check_given, make_options, make_targets
from medgemma_tasks.errors import (
    EmptyAnswer,
    InvalidRequest,
    MedGemmaError,
    SequenceTooLong,
    TokenOutOfRange,
)
from medgemma_tasks.models import (
    AnswerTarget,
    CharactersTarget,
    EveryTokenTarget,
    KeywordTarget,
    Options,
    PromptTarget,
    Target,
    TokenTarget,
)
from tests.stub_engine import StubEngine

SERVED = StubEngine().served


def target(**given: Any) -> Target:
    (found,) = make_targets(Wanted(**given))
    return found


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, AnswerTarget()),
        ({"keyword": " lung "}, KeywordTarget(keyword="lung")),
        ({"keyword": "x", "occurrence": np.int64(2)}, KeywordTarget(keyword="x", occurrence=2)),
        ({"token": np.int32(7)}, TokenTarget(position=7)),
        ({"targets": TokenTarget(position=1)}, TokenTarget(position=1)),
        ({"targets": [TokenTarget(position=1)]}, TokenTarget(position=1)),
        ({"keyword": ["lung"]}, KeywordTarget(keyword="lung")),
        ({"prompt_words": " lung "}, PromptTarget(keyword="lung")),
        ({"characters": (3, 9)}, CharactersTarget(start=3, end=9)),
        ({"characters": [3, None]}, CharactersTarget(start=3)),
        ({"every_token": True}, EveryTokenTarget()),
    ],
)
def test_what_is_given_becomes_the_target(given: dict[str, Any], wanted: Target) -> None:
    assert target(**given) == wanted


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"keyword": 5}, InvalidRequest),
        ({"keyword": "x", "occurrence": "x"}, InvalidRequest),
        ({"keyword": "x", "occurrence": True}, InvalidRequest),
        ({"keyword": "x", "whole_word": "maybe"}, InvalidRequest),
        # Which occurrence, of what?
        ({"occurrence": 3}, InvalidRequest),
        ({"token": 7, "occurrence": 3}, InvalidRequest),
        ({"token": "7"}, InvalidRequest),
        ({"token": 7.0}, InvalidRequest),
        ({"token": True}, InvalidRequest),
        ({"token": np.array([1, 2])}, InvalidRequest),
        ({"token": np.True_}, InvalidRequest),
        # No token predicts the first one.
        ({"token": 0}, TokenOutOfRange),
        ({"token": -1}, TokenOutOfRange),
        ({"targets": TokenTarget(position=0)}, TokenOutOfRange),
        ({"targets": {"kind": "answer"}}, InvalidRequest),
        ({"targets": [{"kind": "answer"}]}, InvalidRequest),
        ({"targets": Options()}, InvalidRequest),
        ({"characters": 5}, InvalidRequest),
        ({"characters": (5,)}, InvalidRequest),
        ({"characters": (-1, 3)}, InvalidRequest),
        ({"characters": ("a", 3)}, InvalidRequest),
        ({"prompt_words": [5]}, InvalidRequest),
    ],
)
def test_a_target_that_cannot_be_is_refused(
    given: dict[str, Any], error: type[MedGemmaError]
) -> None:
    with pytest.raises(MedGemmaError) as caught:
        target(**given)
    assert type(caught.value) is error


@pytest.mark.parametrize(("answer", "error"), [(5, InvalidRequest), (" \n", EmptyAnswer)])
def test_a_given_answer_that_is_none_is_refused(answer: Any, error: type[MedGemmaError]) -> None:
    with pytest.raises(error):
        check_given(answer)


@pytest.mark.parametrize("wrong", ["x", "3", 3.5, True, 0, -1, 10**9])
def test_a_number_of_tokens_that_cannot_be_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidRequest, match="max_new_tokens"):
        make_options(1, SERVED, wrong)


def test_padding_is_yes_or_no() -> None:
    assert make_options(1, SERVED, pad_to_square=False).pad_to_square is False
    with pytest.raises(InvalidRequest, match="pad_to_square"):
        make_options(1, SERVED, pad_to_square="maybe")


def test_images_that_leave_no_room_are_refused() -> None:
    with pytest.raises(SequenceTooLong):
        make_options(10_000, SERVED)
