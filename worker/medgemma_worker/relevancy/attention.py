"""One attention implementation of our own: SDPA, and a place where a capture can look on.

transformers chooses attention by name. Under ours the text model runs plain SDPA, unless a call
passes ``relevancy_capture=...``, which reaches this function as a keyword argument. So nothing is
switched back and forth, and no state is shared between threads: whose capture it is stands in the
call itself. The vision tower keeps SDPA.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from medgemma_tasks.errors import ModelLoadFailed

NAME = "medgemma_relevancy"


class Capture(Protocol):
    """Something that watches each attention of one forward pass."""

    def watch(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        causal: bool,
        scaling: float,
        output: Tensor,
    ) -> None:
        """query (B, H, S, D); key, value (B, K, S, D); mask bool (B, 1, S, S), True where open,
        or None; output (B, S, H, D), part of the graph."""


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    relevancy_capture: Capture | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    if relevancy_capture is not None:
        relevancy_capture.watch(
            layer=int(module.layer_idx),  # type: ignore[arg-type]
            query=query,
            key=key,
            value=value,
            mask=attention_mask,
            causal=bool(module.is_causal),
            scaling=float(kwargs["scaling"]),
            output=output,
        )
    return output, None


def install(model: nn.Module) -> None:
    """Register the implementation and choose it for the text model. Safe to call again.

    Raises ModelLoadFailed when transformers does not know both halves afterwards: an attention
    function without a mask function under the same name runs with no mask at all, silently.
    """
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    if NAME not in AttentionInterface() or NAME not in AttentionMaskInterface():
        raise ModelLoadFailed(
            "transformers did not keep the attention function and its mask function; "
            "install a version of transformers that this release supports."
        )
    if model.config.text_config._attn_implementation != NAME:  # type: ignore[union-attr]
        model.set_attn_implementation({"text_config": NAME})  # type: ignore[operator]
    text = model.config.text_config  # type: ignore[union-attr]
    if text._attn_implementation != NAME or model.config.vision_config._attn_implementation == NAME:  # type: ignore[union-attr]
        raise ModelLoadFailed("The text model alone could not be given our attention function.")
    if getattr(text, "attn_logit_softcapping", None):
        raise ModelLoadFailed(
            "This model caps its attention logits, which the relevancy rules here do not cover; "
            "use a Gemma 3 checkpoint."
        )


def open_columns(mask: Tensor | None, causal: bool, first: int, last: int, length: int) -> Tensor:
    """Which columns rows ``first..last-1`` of one sequence may look at: bool (rows, S).

    ``mask`` is bool (S, S) or None. No mask means causal where the module is causal and everything
    where it is not; the absence of a mask alone says nothing.
    """
    if mask is not None:
        return mask[first:last]
    columns = torch.arange(length)
    if not causal:
        return torch.ones(last - first, length, dtype=torch.bool)
    return columns[None, :] <= torch.arange(first, last)[:, None]
