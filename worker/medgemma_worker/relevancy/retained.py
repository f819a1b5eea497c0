"""The plain way, as published: every attention and its gradient kept, R built by matrix products.

This is the reference that tests and benchmarks hold the streaming way against; nothing else calls
it. It needs memory of the order layers x heads x S^2, and takes eager attention from transformers,
so it shares neither attention code nor mask code with the streaming way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def eager(model: nn.Module) -> Iterator[None]:
    """The text model on eager attention, and back. Not for threads."""
    before = model.config.text_config._attn_implementation  # type: ignore[union-attr]
    model.set_attn_implementation({"text_config": "eager"})  # type: ignore[operator]
    try:
        yield
    finally:
        model.set_attn_implementation({"text_config": before})  # type: ignore[operator]


def retained_row(
    model: nn.Module,
    embeddings: Tensor,
    token_type_ids: Tensor,
    token_ids: Tensor,
    positions: tuple[int, ...],
) -> Tensor:
    """The target's row of R: float32 (S,), S the length of ``embeddings``.

    Args:
        embeddings: (1, S, hidden), the input embeddings of the language model, images merged in.
        token_type_ids: int64 (1, S), 1 on image tokens.
        token_ids: int64, the whole sequence, at least as long as the last position + 1.
        positions: the target's positions p, each at least 1; the row is the mean of rows p-1.
    """
    start = embeddings.detach().clone().requires_grad_(True)
    with eager(model), torch.enable_grad():
        output = model(
            inputs_embeds=start,
            token_type_ids=token_type_ids,
            output_attentions=True,
            use_cache=False,
        )
        for attention in output.attentions:
            attention.retain_grad()
        logits = output.logits[0].float()
        rows = torch.tensor(positions, device=start.device) - 1
        target = logits[rows, token_ids[rows + 1]].sum()
        target.backward()
    length = start.shape[1]
    relevancy = torch.eye(length, device=start.device)
    for attention in output.attentions:
        product = (attention.grad[0].float() * attention[0].detach().float()).clamp(min=0)
        relevancy = relevancy + product.mean(dim=0) @ relevancy
    return relevancy[rows].mean(dim=0)
