"""A prompt becomes messages: one text, or texts and images in the order they are read."""

from __future__ import annotations

from typing import Any

import pytest

from medgemma_tasks.asking import make_messages
from medgemma_tasks.errors import EmptyPrompt, InvalidRequest, MedGemmaError
from medgemma_tasks.models import ImagePart, TextPart


def test_a_plain_text_comes_after_all_images() -> None:
    (message,) = make_messages("What?", None, 2)
    assert message.content == (ImagePart(image=0), ImagePart(image=1), TextPart(text="What?"))


def test_parts_keep_their_order() -> None:
    (message,) = make_messages(["Before:", 0, "What?"], None, 1)
    assert message.content == (TextPart(text="Before:"), ImagePart(image=0), TextPart(text="What?"))


def test_an_empty_system_text_is_none() -> None:
    assert len(make_messages("What?", " ", 1)) == 1
    assert [m.role for m in make_messages("What?", "Be brief.", 1)] == ["system", "user"]


@pytest.mark.parametrize(
    ("prompt", "system", "error"),
    [
        (None, None, InvalidRequest),
        (5, None, InvalidRequest),
        (b"What?", None, InvalidRequest),
        (["What?", 0.0], None, InvalidRequest),
        (["What?", True], None, InvalidRequest),
        ("What?", 5, InvalidRequest),
        (" \n", None, EmptyPrompt),
        ([0], None, EmptyPrompt),
        ([0, " "], None, EmptyPrompt),
        # Each image once, in order, and no other.
        (["What?"], None, InvalidRequest),
        ([1, "What?"], None, InvalidRequest),
        ([0, "What?", 0], None, InvalidRequest),
        ([-1, "What?"], None, InvalidRequest),
        ("x" * 100_001, None, InvalidRequest),
    ],
)
def test_a_prompt_that_cannot_be_asked_is_refused(
    prompt: Any, system: Any, error: type[MedGemmaError]
) -> None:
    with pytest.raises(MedGemmaError) as caught:
        make_messages(prompt, system, 1)
    assert type(caught.value) is error
