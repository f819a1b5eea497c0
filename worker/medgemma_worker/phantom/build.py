"""The phantom's architecture: Gemma 3 in every part that matters to an explanation, but tiny.

Six text layers (five local, one global), grouped heads, a local window longer than a
conversation about one image and shorter than one about three, and a SigLIP tower whose
32 x 32 patches are pooled by two into 16 x 16 image tokens.
"""

from __future__ import annotations

import math

import torch
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3Processor,
    Gemma3TextConfig,
    GemmaTokenizer,
    GenerationConfig,
    SiglipVisionConfig,
)
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

from medgemma_worker.phantom.images import GRID, SIZE
from medgemma_worker.phantom.vocabulary import build_tokenizer

HIDDEN = 128
HEADS = 4
VISION_HIDDEN = 96
WINDOW = 512  # tokens


def build_config(tokenizer: GemmaTokenizer) -> Gemma3Config:
    """The model's configuration for this vocabulary."""
    ids = {name: tokenizer.convert_tokens_to_ids(f"<{name}>") for name in ("pad", "eos", "bos")}
    text = Gemma3TextConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=6,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS // 2,
        head_dim=HIDDEN // HEADS,
        query_pre_attn_scalar=HIDDEN // HEADS,
        sliding_window=WINDOW,
        max_position_embeddings=8192,
        initializer_range=0.05,
        pad_token_id=ids["pad"],
        eos_token_id=ids["eos"],
        bos_token_id=ids["bos"],
    )
    vision = SiglipVisionConfig(
        hidden_size=VISION_HIDDEN,
        intermediate_size=2 * VISION_HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=3,
        image_size=SIZE,
        patch_size=SIZE // (2 * GRID),
        vision_use_head=False,
    )
    return Gemma3Config(
        text_config=text,
        vision_config=vision,
        mm_tokens_per_image=GRID * GRID,
        boi_token_index=tokenizer.convert_tokens_to_ids("<start_of_image>"),
        eoi_token_index=tokenizer.convert_tokens_to_ids("<end_of_image>"),
        image_token_index=tokenizer.convert_tokens_to_ids("<image_soft_token>"),
        eos_token_id=[ids["eos"], tokenizer.convert_tokens_to_ids("<end_of_turn>")],
        pad_token_id=ids["pad"],
        bos_token_id=ids["bos"],
    )


def build_processor() -> Gemma3Processor:
    """Tokenizer, chat template and image processing (256 x 256, scaled to -1..1)."""
    tokenizer = build_tokenizer()
    images = Gemma3ImageProcessorPil(
        size={"height": SIZE, "width": SIZE},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
        do_convert_rgb=True,
    )
    return Gemma3Processor(
        image_processor=images,
        tokenizer=tokenizer,
        chat_template=tokenizer.chat_template,
        image_seq_length=GRID * GRID,
    )


def build_model(tokenizer: GemmaTokenizer) -> Gemma3ForConditionalGeneration:
    """A model with fresh weights, drawn from torch's current seed; float32."""
    config = build_config(tokenizer)
    model = Gemma3ForConditionalGeneration(config)
    # Gemma 3 starts this projection at zero, which leaves a fresh model blind.
    projection = model.model.multi_modal_projector.mm_input_projection_weight
    torch.nn.init.normal_(projection, std=VISION_HIDDEN**-0.5)
    # Learned one patch at a time, left and right would take far too many films to tell apart.
    positions = model.model.vision_tower.embeddings.position_embedding.weight
    positions.data.copy_(_waves(2 * GRID, VISION_HIDDEN))
    model.generation_config = GenerationConfig(
        do_sample=False,
        bos_token_id=config.bos_token_id,
        pad_token_id=config.pad_token_id,
        eos_token_id=config.eos_token_id,
    )
    return model


def _waves(side: int, width: int) -> torch.Tensor:
    """Waves over a side x side grid: float32 (side * side, width), amplitude 0.5.

    A quarter each of sines and cosines down the rows and along the columns, of wavelengths
    from four sides to two patches.
    """
    turns = torch.logspace(math.log10(0.25), math.log10(side / 2), width // 4) / side
    angles = 2 * math.pi * torch.arange(side)[:, None] * turns
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)  # (side, width / 2)
    rows = waves[:, None].expand(-1, side, -1)
    return 0.5 * torch.cat([rows, rows.transpose(0, 1)], dim=2).reshape(side * side, width)
