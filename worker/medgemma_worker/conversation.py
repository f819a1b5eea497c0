"""Prompt and answer as one sequence of tokens, and what part each token has in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from medgemma_tasks.models import Shares
from medgemma_worker.answer import Answer
from medgemma_worker.prompt import Prompt
from medgemma_worker.relevancy.explain import RelevancyRow


@dataclass(frozen=True)
class Conversation:
    """Prompt and generated tokens as one sequence of T tokens, on the model's device."""

    ids: torch.Tensor  # int64 (T,)
    kinds: torch.Tensor  # int64 (1, T), 1 on image tokens
    labels: tuple[str, ...]
    roles: tuple[str, ...]  # "image", "special", "prompt" or "answer"
    prompt: Prompt
    answer: Answer


def roles(
    ids: Sequence[int], labels: Sequence[str], prompt: Prompt, special: set[int]
) -> tuple[str, ...]:
    """For each token: ``image``, ``special``, ``prompt`` or ``answer``.

    Turn headers (the role's name and newline after <start_of_turn>), and the newlines around an
    image and after a turn, come from the template, not from the caller, and are special too.
    """
    found = ["prompt" if i < prompt.length else "answer" for i in range(len(ids))]
    header = False
    for i, token in enumerate(ids):
        beside = any(i in (first - 2, end + 1) for first, end in prompt.images)
        beside = beside or (i > 0 and labels[i - 1] == "<end_of_turn>")
        if token in special or header or (beside and not labels[i].strip()):
            found[i] = "special"
        header = labels[i] == "<start_of_turn>" or (header and "\n" not in labels[i])
    for first, end in prompt.images:
        found[first:end] = ["image"] * (end - first)
    return tuple(found)


def shares(row: RelevancyRow, tokens: Sequence[str]) -> Shares:
    """How the gained relevancy is shared out, the target's own positions aside."""
    sums = dict.fromkeys(("image", "prompt", "answer", "special"), 0.0)
    for position, value in enumerate(row.gained.tolist()):
        if position not in row.own:
            sums[tokens[position]] += value
    total = sum(sums.values()) or 1.0
    return Shares(
        images=sums["image"] / total,
        prompt=sums["prompt"] / total,
        answer=sums["answer"] / total,
        special=sums["special"] / total,
    )
