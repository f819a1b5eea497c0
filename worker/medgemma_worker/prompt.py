"""From messages and images to the model's input: one <bos>, and image tokens found, not assumed."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from medgemma_tasks.errors import InvalidRequest, ReservedToken, SequenceTooLong
from medgemma_tasks.models import ImagePart, Message, TextPart

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import Gemma3ForConditionalGeneration, Gemma3Processor

THINKING = ("<unused94>", "<unused95>")
"""MedGemma 1.5 opens and closes a thinking block with these."""

TOKENIZER = threading.Lock()
"""Held by whoever uses a tokenizer: each call may set padding and truncation on the one object that
all threads share, which refuses ("Already borrowed") while another thread is in it."""


@dataclass(frozen=True)
class Prompt:
    """The input of one question, on the CPU.

    input_ids, token_type_ids: int64 (1, S). pixel_values: (n, 3, height, width) in the model's
    dtype, in pinned memory for a model on CUDA. images: for each image, in the order of the prompt,
    the first and one past the last position of its tokens.
    """

    input_ids: Tensor
    token_type_ids: Tensor
    pixel_values: Tensor | None
    images: tuple[tuple[int, int], ...]

    @property
    def length(self) -> int:
        return int(self.input_ids.shape[1])


def reserved_tokens(processor: Gemma3Processor) -> frozenset[str]:
    """Control tokens: in a user's text they would change what the prompt means."""
    tokenizer = processor.tokenizer
    reserved = {str(token) for token in tokenizer.all_special_tokens}
    reserved |= {tokenizer.boi_token, tokenizer.eoi_token, tokenizer.image_token, *THINKING}
    reserved |= {"<start_of_turn>", "<end_of_turn>"}
    return frozenset(reserved)


def check_texts(texts: Iterable[str], reserved: frozenset[str]) -> None:
    """Raise ReservedToken when a text holds a control token."""
    for text in texts:
        for token in reserved:
            if token in text:
                raise ReservedToken(
                    f"The text contains {token}, a control token of the model; remove it.",
                    token=token,
                )


def chat(messages: Sequence[Message], images: Sequence[Image]) -> list[dict[str, Any]]:
    """The messages in the form of the processor's chat template."""
    used: list[int] = []
    turns = []
    for message in messages:
        content: list[dict[str, Any]] = []
        for part in message.content:
            if isinstance(part, TextPart):
                content.append({"type": "text", "text": part.text})
            elif isinstance(part, ImagePart):
                if part.image >= len(images):
                    raise InvalidRequest(
                        f"The messages name image {part.image} and there are {len(images)} "
                        "(counted from 0)."
                    )
                used.append(part.image)
                content.append({"type": "image", "image": images[part.image]})
        turns.append({"role": message.role, "content": content})
    if used != list(range(len(images))):
        raise InvalidRequest("The messages must use every image once, in order.")
    return turns


def build_prompt(
    model: Gemma3ForConditionalGeneration,
    processor: Gemma3Processor,
    messages: Sequence[Message],
    images: Sequence[Image],
    *,
    room: int,
) -> Prompt:
    """Tokenise messages and images by the model's own chat template. For any thread.

    Args:
        images: mode "RGB", in the order in which the messages name them.
        room: tokens that the answer may take.

    Raises ReservedToken, InvalidRequest, SequenceTooLong.
    """
    check_texts(
        (part.text for m in messages for part in m.content if isinstance(part, TextPart)),
        reserved_tokens(processor),
    )
    turns = chat(messages, images)
    with TOKENIZER:
        inputs = processor.apply_chat_template(
            turns,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            add_generation_prompt=True,
        )
    ids: Tensor = inputs["input_ids"]
    kinds = inputs.get("token_type_ids")
    if kinds is None:
        # Without them image tokens would not see each other: another computation altogether.
        kinds = (ids == model.config.image_token_id).long()
    spans = image_spans(kinds[0], int(model.config.mm_tokens_per_image))
    if len(spans) != len(images):
        raise InvalidRequest(
            f"The prompt holds the tokens of {len(spans)} images and {len(images)} were given; "
            "pan and scan must be off."
        )
    bos = int((ids == processor.tokenizer.bos_token_id).sum())
    if bos != 1:
        raise InvalidRequest(f"The prompt holds {bos} <bos> tokens where there must be one.")
    limit = int(model.config.text_config.max_position_embeddings)
    if ids.shape[1] + room > limit:
        raise SequenceTooLong(
            f"The prompt has {ids.shape[1]} tokens and the answer may take {room}, together more "
            f"than the model's context of {limit}; send fewer images, a shorter prompt or a "
            "smaller max_new_tokens."
        )
    pixels = inputs.get("pixel_values")
    if pixels is not None:
        pixels = pixels.to(model.dtype)
        pixels = pixels.pin_memory() if model.device.type == "cuda" else pixels
    return Prompt(input_ids=ids, token_type_ids=kinds, pixel_values=pixels, images=spans)


def image_spans(kinds: Tensor, tokens_per_image: int) -> tuple[tuple[int, int], ...]:
    """The runs of 1 in ``kinds`` (int64, (S,)), each of ``tokens_per_image``.

    Raises InvalidRequest when a run has another length: images and image tokens disagree.
    """
    spans = []
    edges = torch.diff(torch.nn.functional.pad((kinds == 1).int(), (1, 1)))
    starts = torch.nonzero(edges == 1).flatten().tolist()
    ends = torch.nonzero(edges == -1).flatten().tolist()
    for start, end in zip(starts, ends, strict=True):
        if end - start != tokens_per_image:
            raise InvalidRequest(
                f"A run of {end - start} image tokens stands in the prompt where each image has "
                f"{tokens_per_image}."
            )
        spans.append((start, end))
    return tuple(spans)
