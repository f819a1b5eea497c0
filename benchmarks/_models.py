"""Random Gemma 3 models of stated shapes, passages for them, and the ways that are compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, SiglipVisionConfig
from transformers.models.gemma3 import Gemma3TextConfig

from medgemma_worker.relevancy.attention import install
from medgemma_worker.relevancy.explain import Passage, explain
from medgemma_worker.relevancy.retained import retained_row

SHAPES: dict[str, dict[str, int]] = {
    "medgemma-4b": {
        "hidden_size": 2560,
        "intermediate_size": 10_240,
        "num_hidden_layers": 34,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "vocab_size": 262_208,
        "sliding_window": 1024,
    },
    # MedGemma's pattern of layers and heads, scaled down to what two CPU cores can time.
    "scaled": {
        "hidden_size": 256,
        "intermediate_size": 1024,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 32,
        "vocab_size": 1000,
        "sliding_window": 1024,
    },
    # One layer without a window among seven, for equality and for trying scripts.
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 7,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 16,
        "vocab_size": 1000,
        "sliding_window": 128,
    },
}
VISION: dict[str, dict[str, int]] = {
    "medgemma-4b": {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": 896,
        "patch_size": 14,
    },
    "scaled": {
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_hidden_layers": 9,
        "num_attention_heads": 4,
        "image_size": 448,
        "patch_size": 14,
    },
    "tiny": {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "image_size": 224,
        "patch_size": 14,
    },
}
IMAGE, BETWEEN, LEAD = 256, 4, 5
"""Tokens of an image, of text after each image, and before the first."""

Way = Callable[[], object]


def build(
    shape: str,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    **changes: int,
) -> Gemma3ForConditionalGeneration:
    """Frozen, in eval mode, ours installed. ``changes`` replace values of the shape."""
    sizes = {**SHAPES[shape], **changes}
    text = Gemma3TextConfig(
        **sizes,
        query_pre_attn_scalar=sizes["head_dim"],
        max_position_embeddings=131_072,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )
    config = Gemma3Config(
        text_config=text,
        vision_config=SiglipVisionConfig(**VISION[shape]),
        mm_tokens_per_image=IMAGE,
        image_token_index=sizes["vocab_size"] - 1,
    )
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = Gemma3ForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(before)
    model.eval().requires_grad_(False)
    install(model)
    return model


def layout(images: int, tail: int, image: int = IMAGE) -> tuple[Tensor, list[tuple[int, int]]]:
    """Text, images with text between, ``tail`` tokens of text: kinds (1, T), runs of images."""
    runs = [
        (at, at + image) for at in range(LEAD, LEAD + images * (image + BETWEEN), image + BETWEEN)
    ]
    length = LEAD + images * (image + BETWEEN) + tail
    kinds = torch.zeros(1, length, dtype=torch.long)
    for first, end in runs:
        kinds[0, first:end] = 1
    return kinds, runs


def passage_of(
    model: Gemma3ForConditionalGeneration,
    length: int,
    images: int = 1,
    *,
    image: int = IMAGE,
    seed: int = 0,
) -> Passage:
    """``length`` tokens and one more, the target's; random, images where ``layout`` has them."""
    tail = length + 1 - LEAD - images * (image + BETWEEN)
    if tail < 1:
        raise SystemExit(f"{length} positions are too few for {images} images.")
    kinds, runs = layout(images, tail, image)
    generator = torch.Generator().manual_seed(seed + length)
    ids = torch.randint(3, 900, (length + 1,), generator=generator).to(model.device)
    embeddings = model.get_input_embeddings()(ids[None]).detach()
    return Passage(embeddings, kinds.to(model.device), ids, images=tuple(runs))


def pixels_of(model: Gemma3ForConditionalGeneration, images: int) -> Tensor:
    side = model.config.vision_config.image_size
    return torch.zeros(images, 3, side, side, device=model.device, dtype=model.dtype)


def floor(model: Gemma3ForConditionalGeneration, passage: Passage, targets: Sequence[int]) -> None:
    """One plain forward pass on SDPA and a backward pass for each target, and no relevancy.

    Weights frozen, the graph from the embeddings, cut after the last target, no cache, logits of
    the targets' rows alone. What transformers itself does, with its own mask.
    """
    length = max(targets)
    start = passage.embeddings[:, :length].detach().requires_grad_(True)
    rows = torch.tensor([p - 1 for p in targets], device=start.device)
    model.set_attn_implementation({"text_config": "sdpa"})
    try:
        with torch.enable_grad():
            logits: Any = model(
                inputs_embeds=start,
                token_type_ids=passage.kinds[:, :length],
                use_cache=False,
                logits_to_keep=rows,
            ).logits
            for i, p in enumerate(targets):
                more = i + 1 < len(targets)
                torch.autograd.grad(logits[0, i, passage.token_ids[p]], start, retain_graph=more)
    finally:
        install(model)


def ours(
    model: Gemma3ForConditionalGeneration,
    passage: Passage,
    targets: Sequence[int],
    checkpoint: bool = False,
) -> None:
    each = [[(p,) for p in targets]]
    explain(model, [passage], each, methods=["chefer"], checkpoint=checkpoint)


def ways(model: Gemma3ForConditionalGeneration, length: int, images: int = 1) -> dict[str, Way]:
    """What is compared, by name; the target is the token after ``length`` positions."""
    passage = passage_of(model, length, images)
    cut = passage.embeddings[:, :length], passage.kinds[:, :length]

    def reference(trainable: bool) -> Way:
        return lambda: retained_row(model, *cut, passage.token_ids, (length,), trainable=trainable)

    return {
        "floor": lambda: floor(model, passage, [length]),
        "ours": lambda: ours(model, passage, [length]),
        "ours, checkpointed": lambda: ours(model, passage, [length], checkpoint=True),
        "retained, frozen": reference(False),
        "retained, trainable": reference(True),
    }


def retained_bytes(config: Any, length: int, itemsize: int = 4) -> int:
    """What the reference needs, roughly: measured 2.7 to 5.5 times the float32 attention of all
    heads (kept, its gradient, and copies of both on the way). Beyond 2,000 positions a guess."""
    values = int(config.num_hidden_layers) * int(config.num_attention_heads) * length**2
    return round(4.2 * values * itemsize)
