"""One attention implementation of our own: SDPA, and a place where a capture can look on.

transformers chooses attention by name. Under ours the text model runs plain SDPA, unless a call
passes ``relevancy_capture=...``, which reaches this function as a keyword argument. So nothing is
switched back and forth, and no state is shared between threads: whose capture it is stands in the
call itself. The vision tower keeps SDPA.
"""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from medgemma_tasks.errors import ModelLoadFailed
from medgemma_worker.relevancy.banded import banded_attention, whole_length
from medgemma_worker.relevancy.visibility import Visibility, lazy_mask

NAME = "medgemma_relevancy"


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
    if (
        query.shape[2] == 1
        and relevancy_capture is None
        and not isinstance(attention_mask, Visibility)
    ):
        return _next_token(query, key, value, attention_mask, float(kwargs["scaling"])), None
    if isinstance(attention_mask, Visibility) and attention_mask.length > whole_length(query):
        output = banded_attention(query, key, value, attention_mask, float(kwargs["scaling"]))
    else:
        mask = attention_mask
        if isinstance(attention_mask, Visibility):
            mask = attention_mask.bias(query.dtype)
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


def _next_token(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float
) -> Tensor:
    """One query in each row (B, H, 1, D); key, value (B, K, S, D): the output (B, 1, H, D).

    The heads that share keys stand as rows of one product, where transformers would write the keys
    out once for each head: at a step of decoding that is most of what attention moves.
    """
    batch, heads, _, width = query.shape
    grouped = query.reshape(batch, key.shape[1], -1, width)
    output = scaled_dot_product_attention(grouped, key, value, attn_mask=mask, scale=scaling)
    return output.reshape(batch, 1, heads, width)


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
