"""The plain way, as published: every attention and its gradient kept, R built by matrix products.

This is the reference that tests and benchmarks hold the streaming way against; nothing else calls
it. It needs memory of the order layers x heads x S^2, and takes eager attention from transformers,
so it shares neither attention code nor mask code with the streaming way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from medgemma_worker.relevancy.explain import Value


@dataclass(frozen=True)
class RetainedLayer:
    """attention, gradient: float32 (H, S, S), A and dy/dA."""

    attention: Tensor
    gradient: Tensor

    @property
    def relevancy(self) -> Tensor:
        """Abar, equation 5: float32 (S, S)."""
        return (self.gradient * self.attention).clamp(min=0).mean(dim=0)


@contextmanager
def _plain(model: nn.Module, trainable: bool) -> Iterator[None]:
    """The text model on eager attention, weights perhaps trainable, and back. Not for threads."""
    before = model.config.text_config._attn_implementation  # type: ignore[union-attr]
    model.set_attn_implementation({"text_config": "eager"})  # type: ignore[operator]
    model.requires_grad_(trainable)
    try:
        yield
    finally:
        model.set_attn_implementation({"text_config": before})  # type: ignore[operator]
        model.requires_grad_(False)
        model.zero_grad(set_to_none=True)


def retained_layers(
    model: nn.Module,
    embeddings: Tensor,
    token_type_ids: Tensor,
    token_ids: Tensor,
    positions: Sequence[int],
    *,
    trainable: bool = False,
    value: Value = "logit",
) -> list[RetainedLayer]:
    """Attention and gradient of every layer, first to last.

    Args:
        embeddings: (1, S, hidden), the input embeddings of the language model, images merged in.
        token_type_ids: int64 (1, S), 1 on image tokens.
        token_ids: int64, the whole sequence, at least as long as the last position + 1.
        positions: the target's positions p, each at least 1.
        trainable: leave the weights trainable, as the library did that this project grew from; the
            backward pass then fills a gradient for each of them as well.
        value: sum the target's log-probabilities instead of its logits.
    """
    start = embeddings.detach().clone().requires_grad_(True)
    with _plain(model, trainable), torch.enable_grad():
        output = model(
            inputs_embeds=start,
            token_type_ids=token_type_ids,
            output_attentions=True,
            use_cache=False,
        )
        for attention in output.attentions:
            attention.retain_grad()
        scores = output.logits[0].float()
        if value == "log-probability":
            scores = scores.log_softmax(dim=-1)
        rows = torch.tensor(list(positions), device=start.device) - 1
        target = scores[rows, token_ids[rows + 1]].sum()
        target.backward()
        return [
            RetainedLayer(attention[0].detach().float(), attention.grad[0].float())
            for attention in output.attentions
        ]


def retained_row(
    model: nn.Module,
    embeddings: Tensor,
    token_type_ids: Tensor,
    token_ids: Tensor,
    positions: Sequence[int],
    *,
    trainable: bool = False,
    value: Value = "logit",
) -> Tensor:
    """The target's row of R, the mean of rows p-1: float32 (S,). Arguments: see above."""
    layers = retained_layers(
        model, embeddings, token_type_ids, token_ids, positions, trainable=trainable, value=value
    )
    relevancy = torch.eye(embeddings.shape[1], device=embeddings.device)
    for layer in layers:
        relevancy = relevancy + layer.relevancy @ relevancy
    rows = torch.tensor(list(positions), device=embeddings.device) - 1
    return relevancy[rows].mean(dim=0)
