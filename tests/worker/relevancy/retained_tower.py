"""The plain way through the vision tower: eager attention, all of it and its gradients kept."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import Gemma3ForConditionalGeneration

from medgemma_worker.relevancy.retained import RetainedLayer


def retained_tower(
    model: Gemma3ForConditionalGeneration, pixels: Tensor, gradient: Tensor
) -> list[RetainedLayer]:
    """Layers first to last, over one image: pixels (1, 3, height, width).

    gradient: (tokens, hidden), dy/d of the image's features.
    """
    tower = model.model.vision_tower
    before = model.config.vision_config._attn_implementation
    model.set_attn_implementation({"vision_config": "eager"})
    start = tower.embeddings.register_forward_hook(lambda *call: call[-1].requires_grad_(True))
    try:
        with torch.enable_grad():
            found = model.model.get_image_features(pixels, output_attentions=True, return_dict=True)
            attentions = found.attentions
            for attention in attentions:
                attention.retain_grad()
            (found.pooler_output[0] * gradient).sum().backward()
    finally:
        start.remove()
        model.set_attn_implementation({"vision_config": before})
    assert len(attentions) == model.config.vision_config.num_hidden_layers
    return [RetainedLayer(one[0].detach(), one.grad[0]) for one in attentions]


def split_by_hand(totals: Tensor, weights: Tensor) -> Tensor:
    """Patch by patch, in proportion: totals (tokens,), weights (N,), returns (N,)."""
    tokens, patches = round(totals.numel() ** 0.5), round(weights.numel() ** 0.5)
    pool = patches // tokens
    grid, out = weights.view(patches, patches), torch.zeros(patches, patches)
    for row in range(patches):
        for column in range(patches):
            top, left = row // pool, column // pool
            window = grid[top * pool : (top + 1) * pool, left * pool : (left + 1) * pool]
            share = grid[row, column] / window.sum() if window.sum() > 0 else 1 / pool**2
            out[row, column] = totals[top * tokens + left] * share
    return out.flatten()
