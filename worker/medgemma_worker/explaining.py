"""From conversations and spans to results: one forward pass, one backward pass for each target."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from medgemma_tasks.explanation import ExplanationResult
from medgemma_tasks.models import Consistency, Span
from medgemma_worker.conversation import Conversation, shares, texts_of
from medgemma_worker.question import Question
from medgemma_worker.relevancy.explain import RAW, Passage, RelevancyRow, embed, explain
from medgemma_worker.relevancy.memory import must_checkpoint

if TYPE_CHECKING:
    from transformers import Gemma3ForConditionalGeneration

METHOD_VERSION = "1"
"""Part of every job id: raised whenever the same question would get other numbers."""


@dataclass(frozen=True)
class Answered:
    """A question with its answer, and the spans of it that are to be explained, at least one."""

    question: Question
    sequence: Conversation
    spans: tuple[Span, ...]
    generating_seconds: float


def explain_answered(
    model: Gemma3ForConditionalGeneration, answered: Sequence[Answered]
) -> list[list[ExplanationResult]]:
    """Explain them together; each gets what it would get alone. All are of one method.

    Raises the errors of ``relevancy.explain.explain``.
    """
    began = time.perf_counter()
    method = answered[0].question.options.method
    passages = [
        Passage(
            embed(model, a.sequence.ids[None], a.sequence.kinds, a.sequence.prompt.pixel_values),
            a.sequence.kinds,
            a.sequence.ids,
            images=a.sequence.prompt.images,
            answer_first=a.sequence.prompt.length,
        )
        for a in answered
    ]
    targets = [[span.token_positions for span in a.spans] for a in answered]
    longest = max(p[-1] for of_passage in targets for p in of_passage)
    rows = explain(
        model,
        passages,
        targets,
        methods=list(dict.fromkeys((method, RAW))),
        checkpoint=must_checkpoint(
            model.config.text_config, longest * len(passages), model.dtype, model.device
        ),
    )
    seconds = time.perf_counter() - began
    return [
        [
            _result(model, a, span, row, seconds / len(answered))
            for span, row in zip(a.spans, of_passage, strict=True)
        ]
        for a, of_passage in zip(answered, rows, strict=True)
    ]


def _result(
    model: Gemma3ForConditionalGeneration,
    answered: Answered,
    span: Span,
    row: RelevancyRow,
    seconds: float,
) -> ExplanationResult:
    question, sequence = answered.question, answered.sequence
    last = span.token_positions[-1]
    return ExplanationResult.from_scores(
        image_scores=_maps(row.gained, sequence, model),
        raw_image_relevancy=_maps(row.attention, sequence, model),
        **texts_of(row, sequence),
        generated_text=sequence.answer.text,
        pad_to_square=question.options.pad_to_square,
        thinking=sequence.answer.thinking,
        own_relevancy=float(row.gained[list(row.own)].sum()),
        shares=shares(row, sequence.roles),
        consistency=Consistency(checked=row.checked, misses=row.misses),
        spans=(span,),
        metadata={
            "seq_len": len(sequence.labels),
            "num_layers": int(model.config.text_config.num_hidden_layers),
            "input_len": sequence.prompt.length,
            "prompt": question.text,
            "target_token": "".join(span.tokens),
            "target_token_position": last,
            "logit_position": last - 1,
            "method": question.options.method,
            "method_version": METHOD_VERSION,
            "answer_given": question.given_answer is not None,
            "seconds": {"generating": answered.generating_seconds, "explaining": seconds},
        },
    )


def _maps(
    row: torch.Tensor, sequence: Conversation, model: Gemma3ForConditionalGeneration
) -> NDArray[np.float32]:
    """The row's image parts: float32 (n, rows, columns); zero where the target comes first."""
    side = round(int(model.config.mm_tokens_per_image) ** 0.5)
    images = sequence.prompt.images
    maps = np.zeros((len(images), side, side), dtype=np.float32)
    for index, (first, end) in enumerate(images):
        if end <= row.numel():
            maps[index] = row[first:end].numpy().reshape(side, side)
    return maps
