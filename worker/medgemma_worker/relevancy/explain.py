"""One explaining pass: embeddings in, the target's relevancy row out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Gemma3ForConditionalGeneration

from medgemma_tasks.errors import NonFiniteRelevancy
from medgemma_worker.relevancy.streaming import StreamingCapture


@dataclass(frozen=True)
class RelevancyRow:
    """The row of R that belongs to a target, over the S positions before its last token.

    gained: float32 (S,), on the CPU: r - w, the row less the identity it started from. So the
    target's own positions (p-1) hold what they gained from themselves and from later rows.
    attention: float32 (S,): raw attention of the rows p-1, mean over heads and layers.
    own: the positions p-1.
    checked, misses: answer tokens re-scored in the same pass, and those that were not the argmax.
    """

    gained: Tensor
    attention: Tensor
    own: tuple[int, ...]
    checked: int
    misses: int


@torch.no_grad()
def embed(
    model: Gemma3ForConditionalGeneration, token_ids: Tensor, kinds: Tensor, pixels: Tensor | None
) -> Tensor:
    """Input embeddings of the language model with the images merged in: (1, S, hidden).

    Args:
        token_ids, kinds: int64 (1, S); kinds is 1 on image tokens.
        pixels: (n, 3, height, width) or None.
    """
    where = kinds == 1
    # The image token may lie beyond the embedding table, as it does in some checkpoints.
    embeddings: Tensor = model.get_input_embeddings()(token_ids.masked_fill(where, 0))
    if pixels is not None:
        features = model.model.get_image_features(pixels, return_dict=True).pooler_output
        embeddings = embeddings.masked_scatter(where[..., None], features.to(embeddings))
    return embeddings


def relevancy_row(
    model: Gemma3ForConditionalGeneration,
    embeddings: Tensor,
    kinds: Tensor,
    token_ids: Tensor,
    positions: Sequence[int],
    *,
    answer_first: int | None = None,
) -> RelevancyRow:
    """Explain the sum of the logits of the tokens at ``positions``.

    The logit of position p-1 predicts token p; the id at p is the one generated, never the argmax.
    Tokens from the last target on cannot influence it and are left out. Weights must be frozen:
    the graph starts at the embeddings.

    Args:
        embeddings: (1, S, hidden). kinds: int64 (1, S). token_ids: int64 (S,).
        positions: ascending, each at least 1.
        answer_first: where the greedy answer begins, to be re-scored; None scores nothing.

    Raises NonFiniteRelevancy.
    """
    length = positions[-1]
    own = tuple(p - 1 for p in positions)
    rows = list(own)
    if answer_first is not None and answer_first <= length:
        rows = sorted({*rows, *range(answer_first - 1, length)})
    weights = torch.zeros(length, device=embeddings.device)
    weights[list(own)] = 1.0 / len(own)
    capture = StreamingCapture(weights)
    start = embeddings[:, :length].detach().requires_grad_(True)
    with torch.enable_grad():
        logits = model(
            inputs_embeds=start,
            token_type_ids=kinds[:, :length],
            use_cache=False,
            logits_to_keep=torch.tensor(rows, device=start.device),
            relevancy_capture=capture,
        ).logits[0]
        expected = token_ids[torch.tensor(rows, device=token_ids.device) + 1]
        wanted = torch.tensor([rows.index(i) for i in own], device=logits.device)
        target = logits[wanted, expected[wanted]].float().sum()
        if not torch.isfinite(target):
            raise NonFiniteRelevancy(
                "The target's logit is NaN or infinite, so there is no map. Try dtype float32.",
                layer=None,
            )
        torch.autograd.grad(target, start)
    layers = int(model.config.text_config.num_hidden_layers)
    capture.check(layers)
    scored = [i for i, row in enumerate(rows) if answer_first and row >= answer_first - 1]
    hits = logits.detach()[scored].argmax(dim=-1) == expected[scored]
    return RelevancyRow(
        gained=(capture.row - weights).cpu(),
        attention=(capture.attention / layers).cpu(),
        own=own,
        checked=len(scored),
        misses=len(scored) - int(hits.sum()),
    )
