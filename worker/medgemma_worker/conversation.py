"""Prompt and answer as one sequence of tokens, and what part each token has in it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from medgemma_tasks.errors import EmptyAnswer
from medgemma_tasks.models import Message, Options, Shares
from medgemma_worker.answer import Answer, Decode, Words, read_answer, token_offsets
from medgemma_worker.generation import end_tokens, generate
from medgemma_worker.pictures_in import prepared
from medgemma_worker.prompt import (
    THINKING,
    Prompt,
    build_prompt,
    check_texts,
    reserved_tokens,
)
from medgemma_worker.relevancy.explain import RelevancyRow

if TYPE_CHECKING:
    from transformers import Gemma3ForConditionalGeneration, Gemma3Processor


@dataclass(frozen=True, repr=False)
class Conversation:
    """Prompt and answer as one sequence of T tokens, on the model's device."""

    ids: torch.Tensor  # int64 (T,)
    kinds: torch.Tensor  # int64 (1, T), 1 on image tokens
    labels: tuple[str, ...]
    roles: tuple[str, ...]  # "image", "special", "prompt" or "answer"
    prompt: Prompt
    answer: Answer
    decode: Decode = field(repr=False)

    def prompt_words(self) -> tuple[Words, ...]:
        """The runs of text in the prompt that the caller wrote: before, between, after images."""
        found = []
        places = range(self.prompt.length)
        for role, run in itertools.groupby(places, key=lambda place: self.roles[place]):
            positions = list(run)
            if role == "prompt":
                ids = self.ids[positions].tolist()
                text = self.decode(ids)
                offsets = tuple(token_offsets(ids, text, self.decode))
                found.append(Words(text=text, first=positions[0], offsets=offsets))
        return tuple(found)


def converse(
    model: Gemma3ForConditionalGeneration,
    processor: Gemma3Processor,
    images: Sequence[Image.Image],
    messages: Sequence[Message],
    options: Options,
    *,
    given_answer: str | None = None,
    tell: Callable[[float], None],
) -> Conversation:
    """Ask, and decode the greedy answer, once; or take the answer that is given, and decode none.

    ``tell`` is called for each token with the fraction of the tokens allowed; it may raise.
    Raises the errors of ``build_prompt`` and ``read_answer``.
    """
    tokenizer = processor.tokenizer

    def decode(ids: Sequence[int]) -> str:
        return str(
            tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        )

    shown = [prepared(image, pad=options.pad_to_square) for image in images]
    given = None if given_answer is None else _tokens(processor, given_answer)
    room = options.max_new_tokens if given is None else len(given)
    prompt = build_prompt(model, processor, messages, shown, room=room)
    if given is None:
        said = generate(model, prompt, max_new_tokens=options.max_new_tokens, tell=tell)
    else:
        said = given
    vocabulary = tokenizer.get_vocab()
    answer = read_answer(
        said,
        first=prompt.length,
        decode=decode,
        ends=end_tokens(model),
        thinking=(vocabulary.get(THINKING[0]), vocabulary.get(THINKING[1])),
    )
    new = torch.tensor([said], device=prompt.input_ids.device)
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
        decode=decode,
    )


def _tokens(processor: Gemma3Processor, answer: str) -> list[int]:
    """A given answer as tokens. Raises ReservedToken, EmptyAnswer."""
    check_texts([answer], reserved_tokens(processor))
    if not answer.strip():
        raise EmptyAnswer("The given answer is empty; give the words to explain.")
    ids: list[int] = processor.tokenizer(answer.strip(), add_special_tokens=False)["input_ids"]
    return ids


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
