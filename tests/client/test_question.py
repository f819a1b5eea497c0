"""What a caller says: whatever cannot be used is an error of ours, before anything is written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medgemma_client.question import make_messages, make_options, make_target
from medgemma_tasks.errors import (
    EmptyPrompt,
    InvalidRequest,
    MedGemmaError,
    SequenceTooLong,
    TokenOutOfRange,
)
from medgemma_tasks.models import AnswerTarget, KeywordTarget, Target, TokenTarget
from tests.stub_engine import StubEngine

SERVED = StubEngine().served


def target(**given: Any) -> Target:
    plain = {"keyword": None, "token": None, "target": None, "occurrence": 1, "whole_word": True}
    return make_target(**{**plain, **given})


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, AnswerTarget()),
        ({"keyword": " lung "}, KeywordTarget(keyword="lung")),
        ({"keyword": "x", "occurrence": np.int64(2)}, KeywordTarget(keyword="x", occurrence=2)),
        ({"token": np.int32(7)}, TokenTarget(position=7)),
        ({"target": TokenTarget(position=1)}, TokenTarget(position=1)),
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
        ({"target": TokenTarget(position=0)}, TokenOutOfRange),
        ({"target": {"kind": "answer"}}, InvalidRequest),
    ],
)
def test_a_target_that_cannot_be_is_refused(
    given: dict[str, Any], error: type[MedGemmaError]
) -> None:
    with pytest.raises(MedGemmaError) as caught:
        target(**given)
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("prompt", "system", "error"),
    [
        (None, None, InvalidRequest),
        (5, None, InvalidRequest),
        (b"What?", None, InvalidRequest),
        ("What?", 5, InvalidRequest),
        (" \n", None, EmptyPrompt),
    ],
)
def test_a_prompt_that_is_no_text_is_refused(
    prompt: Any, system: Any, error: type[MedGemmaError]
) -> None:
    with pytest.raises(MedGemmaError) as caught:
        make_messages(prompt, system, 1)
    assert type(caught.value) is error


def test_an_empty_system_text_is_none() -> None:
    assert len(make_messages("What?", " ", 1)) == 1
    assert len(make_messages("What?", "Be brief.", 1)) == 2


@pytest.mark.parametrize("wrong", ["x", "3", 3.5, True, 0, -1, 10**9])
def test_a_number_of_tokens_that_cannot_be_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidRequest, match="max_new_tokens"):
        make_options(wrong, True, 1, SERVED)


def test_padding_is_yes_or_no() -> None:
    assert make_options(None, False, 1, SERVED).pad_to_square is False
    with pytest.raises(InvalidRequest, match="pad_to_square"):
        make_options(None, "maybe", 1, SERVED)  # type: ignore[arg-type]


def test_images_that_leave_no_room_are_refused() -> None:
    with pytest.raises(SequenceTooLong):
        make_options(None, True, 10_000, SERVED)
