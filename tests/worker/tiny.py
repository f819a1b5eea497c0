"""Random tiny Gemma 3 models, in the true class, for tests that need numbers and no meaning."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, SiglipVisionConfig
from transformers.models.gemma3 import Gemma3TextConfig

TOKENS_PER_IMAGE = 16


@dataclass(frozen=True)
class Tiny:
    model: Gemma3ForConditionalGeneration
    ids: Tensor  # int64 (1, S)
    kinds: Tensor  # int64 (1, S), 1 on image tokens
    pixels: Tensor | None  # float32 (n, 3, 32, 32)
    prompt_length: int


def tiny_model(
    *,
    seed: int = 0,
    layers: int = 7,
    heads: int = 8,
    kv_heads: int = 4,
    window: int = 4096,
    vision_heads: int = 2,
    patch_size: int = 4,
    seeing: bool = False,
) -> Gemma3ForConditionalGeneration:
    """7 layers in the 5:1 pattern, hidden 64, 16 image tokens on a 4 x 4 grid.

    Images are 32 x 32 pixels, so patches of 4 are pooled by 2. Gemma 3 starts the projection of its
    image features at zero; with ``seeing`` it is noise, and what is in an image matters.
    """
    torch.manual_seed(seed)
    text = Gemma3TextConfig(
        vocab_size=300,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=16,
        query_pre_attn_scalar=16,
        sliding_window=window,
        max_position_embeddings=8192,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )
    vision = SiglipVisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=vision_heads,
        image_size=32,
        patch_size=patch_size,
    )
    config = Gemma3Config(
        text_config=text,
        vision_config=vision,
        mm_tokens_per_image=TOKENS_PER_IMAGE,
        image_token_index=299,
        boi_token_index=297,
        eoi_token_index=298,
    )
    model = Gemma3ForConditionalGeneration(config).eval()
    # Fresh norms and small weights attend almost uniformly; sharpen them so that errors show.
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and "embed" not in name:
                weight.mul_(4.0)
        if seeing:
            torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight)
    return model.requires_grad_(False)


def tiny_case(
    model: Gemma3ForConditionalGeneration, *, images: int, seed: int = 1, answer: int = 6
) -> Tiny:
    """Text, ``images`` images with text between, a question, and an answer of random tokens."""
    generator = torch.Generator().manual_seed(seed)

    def words(count: int) -> list[int]:
        return torch.randint(3, 290, (count,), generator=generator).tolist()

    ids = [2, *words(4)]
    kinds = [0] * len(ids)
    for _ in range(images):
        block = [297, *[299] * TOKENS_PER_IMAGE, 298, *words(3)]
        ids += block
        kinds += [int(token == 299) for token in block]
    tail = words(8 + answer)
    pixels = torch.randn(images, 3, 32, 32, generator=generator) if images else None
    return Tiny(
        model=model,
        ids=torch.tensor([ids + tail]),
        kinds=torch.tensor([kinds + [0] * len(tail)]),
        pixels=pixels,
        prompt_length=len(ids) + 8,
    )
