"""Prompt and answer as one sequence of tokens, and what part each token has in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from medgemma_tasks.models import Message, Options, Shares
from medgemma_worker.answer import Answer, read_answer
from medgemma_worker.generation import end_tokens, generate
from medgemma_worker.pictures_in import prepared
from medgemma_worker.prompt import THINKING, Prompt, build_prompt
from medgemma_worker.relevancy.explain import RelevancyRow

if TYPE_CHECKING:
    from transformers import Gemma3ForConditionalGeneration, Gemma3Processor


@dataclass(frozen=True)
class Conversation:
    """Prompt and generated tokens as one sequence of T tokens, on the model's device."""

    ids: torch.Tensor  # int64 (T,)
    kinds: torch.Tensor  # int64 (1, T), 1 on image tokens
    labels: tuple[str, ...]
    roles: tuple[str, ...]  # "image", "special", "prompt" or "answer"
    prompt: Prompt
    answer: Answer


def converse(
    model: Gemma3ForConditionalGeneration,
    processor: Gemma3Processor,
    images: Sequence[Image.Image],
    messages: Sequence[Message],
    options: Options,
    *,
    tell: Callable[[float], None],
) -> Conversation:
    """Ask, and decode the greedy answer, once.

    ``tell`` is called for each token with the fraction of the tokens allowed; it may raise.
    Raises the errors of ``build_prompt`` and ``read_answer``.
    """
    tokenizer = processor.tokenizer
    shown = [prepared(image, pad=options.pad_to_square) for image in images]
    prompt = build_prompt(model, processor, messages, shown, room=options.max_new_tokens)
    generated = generate(
        model,
        prompt,
        max_new_tokens=options.max_new_tokens,
        tell=tell,
    )
    vocabulary = tokenizer.get_vocab()
    answer = read_answer(
        generated,
        first=prompt.length,
        decode=lambda ids: str(
            tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        ),
        ends=end_tokens(model),
        thinking=(vocabulary.get(THINKING[0]), vocabulary.get(THINKING[1])),
    )
    new = torch.tensor([generated], device=prompt.input_ids.device)
    ids = torch.cat([prompt.input_ids, new], dim=1)
    kinds = torch.cat([prompt.token_type_ids, torch.zeros_like(new)], dim=1)
    labels = tuple(token.replace("▁", " ") for token in tokenizer.convert_ids_to_tokens(ids[0]))
    special = set(tokenizer.all_special_ids) | {tokenizer.boi_token_id, tokenizer.eoi_token_id}
    return Conversation(
        ids=ids[0],
        kinds=kinds,
        labels=labels,
        roles=roles(ids[0].tolist(), labels, prompt, special),
        prompt=prompt,
        answer=answer,
    )


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


def texts_of(row: RelevancyRow, sequence: Conversation) -> dict[str, Any]:
    """What belongs to the text tokens that the target could see, as ``from_scores`` takes it."""
    positions = [p for p in range(row.gained.numel()) if sequence.roles[p] != "image"]
    return {
        "text_scores": row.gained[positions].numpy(),
        "raw_text_relevancy": row.attention[positions].numpy(),
        "text_positions": np.array(positions, dtype=np.int64),
        "token_labels": [sequence.labels[p] for p in positions],
        "text_roles": [sequence.roles[p] for p in positions],
    }
