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
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from medgemma_tasks.errors import ModelLoadFailed
from medgemma_worker.relevancy.visibility import Visibility, lazy_mask

NAME = "medgemma_relevancy"

WHOLE_LENGTH = {"cpu": 384, "cuda": 4096}
"""Positions up to which a layer runs SDPA in one piece; beyond, by blocks of rows."""

BLOCK_ROWS = {"cpu": 256, "cuda": 1024}
"""Rows of queries in a block; each looks only at the columns that any of its rows can see, and what
a causal mask or a window closes costs nothing. Measured on a CPU; a guess for a GPU."""


class Capture(Protocol):
    """Something that watches each attention of one forward pass."""

    def watch(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        visibility: Visibility,
        scaling: float,
        output: Tensor,
    ) -> None:
        """query (B, H, S, D); key, value (B, K, S, D); output (B, S, H, D), of the graph."""


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | Visibility | None,
    relevancy_capture: Capture | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    whole = WHOLE_LENGTH.get(query.device.type, 4096)
    if isinstance(attention_mask, Visibility) and attention_mask.length > whole:
        output = banded_attention(query, key, value, attention_mask, float(kwargs["scaling"]))
    else:
        mask = attention_mask.dense() if isinstance(attention_mask, Visibility) else attention_mask
        output, _ = sdpa_attention_forward(module, query, key, value, mask, **kwargs)
    if relevancy_capture is not None:
        if not isinstance(attention_mask, Visibility):
            # Reading None by is_causal would be a guess about somebody else's mask.
            raise ModelLoadFailed("The model was not given the mask function that belongs to ours.")
        relevancy_capture.watch(
            layer=int(module.layer_idx),  # type: ignore[arg-type]
            query=query,
            key=key,
            value=value,
            visibility=attention_mask,
            scaling=float(kwargs["scaling"]),
            output=output,
        )
    return output, None


def banded_attention(
    query: Tensor, key: Tensor, value: Tensor, visibility: Visibility, scaling: float
) -> Tensor:
    """SDPA by blocks of rows, each over its own columns: (B, S, H, D), contiguous.

    A layer with a window costs its band and not the square, and no S x S mask is ever made.
    """
    groups = query.shape[1] // key.shape[1]
    parts = []
    step = BLOCK_ROWS.get(query.device.type, 1024)
    for first in range(0, visibility.length, step):
        last = min(first + step, visibility.length)
        spans = [visibility.span(first, last, b) for b in range(query.shape[0])]
        left, right = min(s.left for s in spans), max(s.right for s in spans)
        k, v = key[:, :, left:right], value[:, :, left:right]
        parts.append(
            scaled_dot_product_attention(
                query[:, :, first:last],
                k.repeat_interleave(groups, dim=1) if groups > 1 else k,
                v.repeat_interleave(groups, dim=1) if groups > 1 else v,
                attn_mask=visibility.block(first, last, left, right),
                scale=scaling,
            )
        )
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous()


def install(model: nn.Module) -> None:
    """Register the implementation and choose it for the text model. Safe to call again.

    Raises ModelLoadFailed when transformers does not know both halves afterwards: an attention
    function without a mask function under the same name runs with no mask at all, silently.
    """
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, lazy_mask)
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
