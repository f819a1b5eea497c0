"""From conversations and spans to results: one forward pass, one backward pass for each target."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from medgemma_tasks.explanation import ExplanationResult
from medgemma_tasks.models import Areas, Consistency, Span
from medgemma_worker.conversation import Conversation, shares, texts_of
from medgemma_worker.pictures_in import prepared
from medgemma_worker.question import Question
from medgemma_worker.relevancy.explain import RAW, Passage, RelevancyRow
from medgemma_worker.relevancy.integrated import STEPS, explain_all
from medgemma_worker.relevancy.memory import must_checkpoint
from medgemma_worker.relevancy.methods import INTEGRATED
from medgemma_worker.relevancy.patches import patch_maps
from medgemma_worker.truth.covered import covered_tokens
from medgemma_worker.truth.job import areas as score_maps

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import Gemma3ForConditionalGeneration, Gemma3Processor

METHOD_VERSION = "1"
"""Part of every job id: raised whenever the same question would get other numbers."""


AREA_PASSES = 18
"""Forward passes for the areas of a target, about."""


@dataclass(frozen=True)
class Answered:
    """A question with its answer, and the spans of it that are to be explained, at least one."""

    question: Question
    sequence: Conversation
    spans: tuple[Span, ...]
    generating_seconds: float


def passes_of(answered: Answered) -> int:
    """How often explaining it goes through the model, about: forward once, and backward, which is
    twice the work, for each target. Areas and integrated gradients are whole passes of their own.
    """
    options = answered.question.options
    each = 2 + AREA_PASSES * options.areas
    if options.method == INTEGRATED:
        each += 3 * STEPS
    return 1 + each * len(answered.spans)


def passage_of(model: Gemma3ForConditionalGeneration, sequence: Conversation) -> Passage:
    """A conversation as the explaining pass takes it."""
    return Passage(
        sequence.embeddings(model),
        sequence.kinds,
        sequence.ids,
        images=sequence.prompt.images,
        answer_first=sequence.prompt.length,
    )


def shown_images(question: Question) -> list[Image]:
    """The images as the processor gets them."""
    return [prepared(image, pad=question.options.pad_to_square) for image in question.images]


def explain_answered(
    model: Gemma3ForConditionalGeneration,
    processor: Gemma3Processor,
    answered: Sequence[Answered],
    tell: Callable[[float], None],
) -> list[list[ExplanationResult]]:
    """Explain them together; each gets what it would get alone. All are of one method.

    ``tell`` is called between targets with the fraction that is done; it may raise.
    Raises OutOfMemory where they cannot fit, and the errors of ``relevancy.explain.explain``.
    """
    began = time.perf_counter()
    method = answered[0].question.options.method
    passages = [passage_of(model, a.sequence) for a in answered]
    if method == INTEGRATED:
        passages = [
            replace(passage, covered=covered_tokens(model, processor, shown_images(a.question)))
            for passage, a in zip(passages, answered, strict=True)
        ]
    targets = [[span.token_positions for span in a.spans] for a in answered]
    longest = max(p[-1] for of_passage in targets for p in of_passage)
    fine = any(a.question.options.resolution == "patch" for a in answered)
    rows = explain_all(
        model,
        passages,
        targets,
        methods=list(dict.fromkeys((method, RAW))),
        gradients=fine,
        checkpoint=must_checkpoint(
            model.config.text_config, longest, model.dtype, model.device, batch=len(passages)
        ),
        tell=tell,
    )
    each = (time.perf_counter() - began) / len(answered)
    return [
        _results(model, processor, a, of_passage, each)
        for a, of_passage in zip(answered, rows, strict=True)
    ]


def _results(
    model: Gemma3ForConditionalGeneration,
    processor: Gemma3Processor,
    answered: Answered,
    rows: Sequence[RelevancyRow],
    seconds: float,
) -> list[ExplanationResult]:
    """The results of one question's targets."""
    began = time.perf_counter()
    maps = [maps_of(row.gained, answered.sequence, model) for row in rows]
    areas: list[Areas | None] = [None] * len(rows)
    if answered.question.options.areas:
        areas = [
            measure(model, processor, answered, span, scores)
            for span, scores in zip(answered.spans, maps, strict=True)
        ]
    measured = time.perf_counter()
    patches = patches_of(model, answered, rows, maps)
    spent = {
        "generating": answered.generating_seconds,
        "explaining": seconds + time.perf_counter() - measured,
        "measuring": measured - began,
    }
    targets = zip(answered.spans, rows, maps, areas, patches, strict=True)
    return [
        result_of(model, answered, span, row, scores, spent, areas=areas, patches=patches)
        for span, row, scores, areas, patches in targets
    ]


def patches_of(
    model: Gemma3ForConditionalGeneration,
    answered: Answered,
    rows: Sequence[RelevancyRow],
    maps: Sequence[NDArray[np.float32]],
) -> Sequence[NDArray[np.float32] | None]:
    """For each target the maps over the tower's patches, (n, rows, columns), if asked for."""
    pixels = answered.sequence.prompt.pixel_values
    if answered.question.options.resolution != "patch" or pixels is None:
        return [None] * len(rows)
    scores = torch.stack([torch.from_numpy(one).flatten(1) for one in maps])
    gradients = torch.stack([row.gradient for row in rows if row.gradient is not None])
    return list(patch_maps(model, pixels.to(model.device), scores, gradients).numpy())


def measure(
    model: Gemma3ForConditionalGeneration,
    processor: Gemma3Processor,
    answered: Answered,
    span: Span,
    scores: NDArray[np.float32],
) -> Areas | None:
    """How true a map is, (n, rows, columns); None where an image comes after the target, which
    could not have seen it, or no cell has any relevancy."""
    question, sequence = answered.question, answered.sequence
    images = sequence.prompt.images
    if not images or span.token_positions[0] <= images[-1][1] or not scores.any():
        return None
    scored = score_maps(
        model,
        processor,
        shown_images(question),
        sequence.ids,
        sequence.kinds[0],
        span.token_positions,
        {"map": scores},
    )
    found = scored.areas.get("map")
    return Areas(
        deletion=None if found is None else found.deletion,
        insertion=None if found is None else found.insertion,
        log_p=scored.log_whole,
        log_p_covered=scored.log_covered,
    )


def result_of(
    model: Gemma3ForConditionalGeneration,
    answered: Answered,
    span: Span,
    row: RelevancyRow,
    scores: NDArray[np.float32],
    seconds: dict[str, float],
    *,
    areas: Areas | None = None,
    patches: NDArray[np.float32] | None = None,
) -> ExplanationResult:
    """One target's result: its row over the text, and the maps (n, rows, columns) of the row."""
    question, sequence = answered.question, answered.sequence
    last = span.token_positions[-1]
    return ExplanationResult.from_scores(
        image_scores=scores,
        raw_image_relevancy=maps_of(row.attention, sequence, model),
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
            "seconds": seconds,
        },
        areas=areas,
        patch_scores=patches,
    )


def maps_of(
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
