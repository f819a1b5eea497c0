"""Integrated gradients over image tokens: what the target owes to each, against a covered image.

Sundararajan, Taly, Yan, *Axiomatic Attribution for Deep Networks*, ICML 2017. From the tokens of
the covered image to those of the image, in a straight line, the gradient of the target's log
probability is averaged at ``STEPS`` midpoints, and multiplied by the whole difference:

    map = sum over the hidden width of (e - e') * mean over k of d log p / de,
          at e' + (k + 1/2)/STEPS (e - e')

It is no relevancy: no attention enters it, and what it says depends on what the image is covered
by. What speaks against the target is cut to 0, so that shares are shares; words get nothing, since
they are the same in both. It costs ``STEPS`` passes where the rule costs one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from transformers import Gemma3ForConditionalGeneration

from medgemma_tasks.errors import InvalidRequest
from medgemma_worker.relevancy.explain import RAW, Passage, RelevancyRow, explain
from medgemma_worker.relevancy.methods import INTEGRATED, check_method

STEPS = 8


def explain_all(
    model: Gemma3ForConditionalGeneration,
    passages: Sequence[Passage],
    targets: Sequence[Sequence[Sequence[int]]],
    *,
    methods: Sequence[str],
    checkpoint: bool = False,
    gradients: bool = False,
    tell: Callable[[float], None] = lambda _: None,
) -> list[list[RelevancyRow]]:
    """``explain`` for every registered method, the one of this file among them.

    Raises InvalidRequest where that one is asked for and a passage has no ``covered`` tokens.
    """
    for name in methods:
        check_method(name)
    plain = [name for name in methods if name != INTEGRATED]
    found = explain(
        model,
        passages,
        targets,
        methods=plain or (RAW,),
        checkpoint=checkpoint,
        gradients=gradients,
        tell=tell,
    )
    if INTEGRATED not in methods:
        return found
    both: list[list[RelevancyRow]] = []
    for passage, of_passage, rows in zip(passages, targets, found, strict=True):
        ours = integrated_rows(model, passage, of_passage, checkpoint=checkpoint)
        both.append(
            [
                # In the order asked for: a row's first method is its map.
                replace(row, rows={n: one if n == INTEGRATED else row.rows[n] for n in methods})
                for row, one in zip(rows, ours, strict=True)
            ]
        )
    return both


def integrated_rows(
    model: Gemma3ForConditionalGeneration,
    passage: Passage,
    targets: Sequence[Sequence[int]],
    *,
    checkpoint: bool = False,
) -> list[Tensor]:
    """For each target its row, float32 over the positions before its last token, on the CPU."""
    rows = [torch.zeros(positions[-1]) for positions in targets]
    if not passage.images:
        return rows
    if passage.covered is None:
        raise InvalidRequest(f"{INTEGRATED} needs the tokens of the covered images too.")
    whole = torch.stack([passage.embeddings[0, first:end] for first, end in passage.images])
    difference = whole - passage.covered.to(whole)
    totals = [torch.zeros_like(whole, dtype=torch.float32) for _ in targets]
    for step in range(STEPS):
        tokens = whole - difference * (1 - (step + 0.5) / STEPS)
        blended = passage.embeddings.clone()
        for (first, end), of_image in zip(passage.images, tokens, strict=True):
            blended[0, first:end] = of_image
        found = explain(
            model,
            [replace(passage, embeddings=blended, answer_first=None)],
            [targets],
            methods=(),
            checkpoint=checkpoint,
            gradients=True,
            value="log-probability",
        )[0]
        for total, of_target in zip(totals, found, strict=True):
            if of_target.gradient is not None:
                total += of_target.gradient.float()
    for total, row in zip(totals, rows, strict=True):
        cells = (total / STEPS * difference.float()).sum(dim=-1).clamp(min=0).cpu()
        for (first, end), of_image in zip(passage.images, cells, strict=True):
            if end <= row.numel():
                row[first:end] = of_image
    return rows
