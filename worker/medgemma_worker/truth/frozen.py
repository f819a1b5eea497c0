"""A question with its greedy answer, frozen: from here on no token changes any more."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from medgemma_tasks.errors import EmptyAnswer, KeywordNotInAnswer
from medgemma_tasks.models import (
    AnswerTarget,
    ImagePart,
    KeywordTarget,
    Message,
    Options,
    Span,
    TextPart,
)
from medgemma_worker.conversation import Conversation, converse
from medgemma_worker.pictures_in import prepared
from medgemma_worker.question import Question as Asked
from medgemma_worker.relevancy.explain import Passage
from medgemma_worker.targets import find_target
from medgemma_worker.truth.covered import covered_tokens
from medgemma_worker.truth.questions import Question

if TYPE_CHECKING:
    from transformers import Gemma3ForConditionalGeneration, Gemma3Processor


@dataclass(frozen=True)
class Frozen:
    """Ready to be explained and scored.

    images: as the processor gets them. passage: with token_ids int64 (T,) and kinds int64 (1, T).
    target: positions of the explained tokens. other: those of another word of the same answer,
    empty where there is none. grid: rows and columns of image tokens.
    """

    images: tuple[Image.Image, ...]
    passage: Passage
    target: tuple[int, ...]
    other: tuple[int, ...]
    grid: tuple[int, int]


def freeze(
    model: Gemma3ForConditionalGeneration,
    processor: Gemma3Processor,
    question: Question,
    *,
    max_new_tokens: int,
) -> Frozen:
    """Decode once, find the target. Raises KeywordNotInAnswer, EmptyAnswer and build_prompt's."""
    parts = (ImagePart(image=0), TextPart(text=question.prompt))
    asked = Asked(
        images=(question.image,),
        messages=(Message(role="user", content=parts),),
        options=Options(max_new_tokens=max_new_tokens),
    )
    sequence = converse(model, processor, asked)
    target = _find(question.keyword, sequence)
    passage = Passage(
        sequence.embeddings(model),
        sequence.kinds,
        sequence.ids,
        images=sequence.prompt.images,
        answer_first=sequence.prompt.length,
        covered=covered_tokens(model, processor, [prepared(question.image, pad=True)]),
    )
    side = round(int(model.config.mm_tokens_per_image) ** 0.5)
    return Frozen(
        images=(prepared(question.image, pad=True),),
        passage=passage,
        target=target.token_positions,
        other=_other(question, sequence, target),
        grid=(side, side),
    )


def _find(keyword: str | None, sequence: Conversation) -> Span:
    target = AnswerTarget() if keyword is None else KeywordTarget(keyword=keyword)
    return find_target(
        target, sequence.answer, labels=sequence.labels, images=sequence.prompt.images
    )


def _other(question: Question, sequence: Conversation, target: Span) -> tuple[int, ...]:
    """Positions of the other word: the one asked for, else the longest with tokens of its own."""
    text = sequence.answer.text
    words = sorted(set(re.findall(r"\w+", text)), key=lambda word: (-len(word), word))
    for word in [question.other] if question.other else words:
        try:
            found = _find(word, sequence).token_positions
        except (KeywordNotInAnswer, EmptyAnswer):
            continue
        if not set(found) & set(target.token_positions):
            return found
    return ()
