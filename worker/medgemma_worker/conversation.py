"""Prompt and answer as one sequence of tokens, and what part each token has in it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medgemma_tasks.errors import EmptyAnswer
from medgemma_tasks.models import Shares
from medgemma_worker.answer import Answer, Decode, Words, read_answer, token_offsets
from medgemma_worker.generation import Embedded, end_tokens, generate
from medgemma_worker.pictures_in import prepared
from medgemma_worker.prompt import (
    THINKING,
    TOKENIZER,
    Prompt,
    build_prompt,
    check_texts,
    reserved_tokens,
)
from medgemma_worker.question import Question
from medgemma_worker.relevancy.explain import RelevancyRow, embed
from medgemma_worker.relevancy.methods import check_method

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
    start: torch.Tensor  # the prompt's embeddings, images merged in: (1, S, hidden)
    answer: Answer
    decode: Decode = field(repr=False)

    def embeddings(self, model: Gemma3ForConditionalGeneration) -> torch.Tensor:
        """All of it as the language model takes it: (1, T, hidden)."""
        said = self.ids[None, self.prompt.length :]
        return torch.cat([self.start, embed(model, said, torch.zeros_like(said), None)], dim=1)

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


@dataclass(frozen=True, repr=False)
class Prepared:
    """A question as tensors on the CPU. given: the answer's tokens, where none is to be decoded."""

    question: Question
    prompt: Prompt
    given: tuple[int, ...] | None

    @property
    def limit(self) -> int:
        """Tokens that the answer may take."""
        if self.given is not None:
            return len(self.given)
        return self.question.options.max_new_tokens


def prepare(
    model: Gemma3ForConditionalGeneration, processor: Gemma3Processor, question: Question
) -> Prepared:
    """Pictures and texts to tensors. For any thread, and several at once: the model's device is
    left alone. Raises the errors of ``build_prompt``, EmptyAnswer and InvalidRequest."""
    check_method(question.options.method)
    pad = question.options.pad_to_square
    shown = [prepared(image, pad=pad) for image in question.images]
    answer = question.given_answer
    given = None if answer is None else tuple(_tokens(processor, answer))
    room = question.options.max_new_tokens if given is None else len(given)
    prompt = build_prompt(model, processor, question.messages, shown, room=room)
    return Prepared(question, prompt, given)


def embedded(model: Gemma3ForConditionalGeneration, asked: Prepared) -> Embedded:
    """The prompt on the model's device. The vision tower runs here, and only here: answering and
    explaining begin with the same embeddings."""
    prompt, device = asked.prompt, model.device
    ids, kinds = prompt.input_ids.to(device), prompt.token_type_ids.to(device)
    pixels = prompt.pixel_values
    if pixels is not None:
        pixels = pixels.to(device, non_blocking=True)
    return Embedded(embed(model, ids, kinds, pixels), kinds)


def read(
    model: Gemma3ForConditionalGeneration,
    processor: Gemma3Processor,
    asked: Prepared,
    start: Embedded,
    said: Sequence[int],
) -> Conversation:
    """The conversation that a prompt and its answer's tokens make. Raises those of
    ``read_answer``."""
    tokenizer, prompt = processor.tokenizer, asked.prompt

    def decode(ids: Sequence[int]) -> str:
        with TOKENIZER:
            return str(
                tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
            )

    answer = read_answer(
        said,
        first=prompt.length,
        decode=decode,
        ends=end_tokens(model),
        thinking=(_id(tokenizer, THINKING[0]), _id(tokenizer, THINKING[1])),
    )
    ids = [*prompt.input_ids[0].tolist(), *said]
    labels = tuple(token.replace("▁", " ") for token in tokenizer.convert_ids_to_tokens(ids))
    special = set(tokenizer.all_special_ids) | {tokenizer.boi_token_id, tokenizer.eoi_token_id}
    kinds = torch.nn.functional.pad(start.kinds, (0, len(said)))
    return Conversation(
        ids=torch.tensor(ids, device=kinds.device),
        kinds=kinds,
        labels=labels,
        roles=roles(ids, labels, prompt, special),
        prompt=prompt,
        start=start.embeddings,
        answer=answer,
        decode=decode,
    )


def converse(
    model: Gemma3ForConditionalGeneration,
    processor: Gemma3Processor,
    question: Question,
    *,
    tell: Callable[[float], None] = lambda _: None,
) -> Conversation:
    """Ask, and decode the greedy answer, once; or take the answer that is given, and decode none.

    ``tell`` is called for each token with the fraction of the tokens allowed; it may raise.
    Raises the errors of ``prepare`` and ``read``.
    """
    asked = prepare(model, processor, question)
    start = embedded(model, asked)
    said: Sequence[int] | None = asked.given
    if said is None:
        said = generate(model, start, max_new_tokens=asked.limit, tell=tell)
    return read(model, processor, asked, start, said)


def _id(tokenizer: Any, token: str) -> int | None:
    """None where the vocabulary has no such token. (Not by the vocabulary itself, which is made
    anew at each asking: 262,000 entries.)"""
    found: int | None = tokenizer.convert_tokens_to_ids(token)
    return None if found == tokenizer.unk_token_id else found


def _tokens(processor: Gemma3Processor, answer: str) -> list[int]:
    """A given answer as tokens. Raises ReservedToken, EmptyAnswer."""
    check_texts([answer], reserved_tokens(processor))
    if not answer.strip():
        raise EmptyAnswer("The given answer is empty; give the words to explain.")
    with TOKENIZER:
        encoded = processor.tokenizer(answer.strip(), add_special_tokens=False)
    ids: list[int] = encoded["input_ids"]
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
