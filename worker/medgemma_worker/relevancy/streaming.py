"""The relevancy row of a target, layer by layer as the backward pass reaches it.

The rules are equations 5 and 6 of Chefer, Gur, Wolf, *Generic Attention-model Explainability for
Interpreting Bi-Modal and Encoder-Decoder Transformers*, ICCV 2021. For layer l with attention A
(H heads, S x S) and its gradient G = dy/dA:

    Abar = mean over heads of max(G * A, 0)                                   (5)
    R <- R + Abar R,   R_0 = I,   layers first to last                        (6)

Only one row of R is wanted, r = w^T R_L with weights w over the rows p-1 of the target. Row
vectors multiply from the left, so the layers may be taken last to first:

    v_L = w,    v_{l-1} = v_l + v_l Abar_l,    r = v_0

which is the order of the backward pass. And G needs no stored attention: with O = A V,
G_h = dO_h V_h^T. So one layer needs q, k, v, the mask and dO:

    v'[j] = v[j] + 1/H sum_i v[i] sum_h max(A_h[i, j] * (dO_h[i] . V_h[j]), 0)

computed by blocks of rows, A recomputed from q and k in float32. Nothing S x S is kept.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from medgemma_tasks.errors import NonFiniteRelevancy
from medgemma_worker.relevancy.attention import open_columns

BLOCK_ELEMENTS = {"cpu": 1 << 21, "cuda": 1 << 26}
"""Elements (heads x rows x columns) of one block: 8 MB of float32 stays near a CPU's cache; a GPU
wants larger products."""


class StreamingCapture:
    """Watches one forward pass of one sequence; its backward pass then fills ``row``.

    Args:
        weights: float32 (S,), w above: the weight of each row of R, usually 1/n at the n rows p-1.
    """

    def __init__(self, weights: Tensor) -> None:
        self.weights = weights
        self.row = weights.clone()
        """float32 (S,): v after the layers that the backward pass has reached; at last v_0."""
        self.attention = torch.zeros_like(weights)
        """float32 (S,): attention of the target's rows, averaged by ``weights``, over heads, and
        summed over layers: the raw baseline, which uses no gradient."""
        self._finite: dict[int, Tensor] = {}

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
        """See ``attention.Capture``. Batch of one."""
        q, k, v = query.detach()[0], key.detach()[0], value.detach()[0]
        open_ = None if mask is None else mask[0, 0]
        rows = torch.nonzero(self.weights).flatten().tolist()
        for i in rows:
            probabilities = _probabilities(q[:, i : i + 1], k, open_, causal, scaling, i)
            self.attention += self.weights[i] * probabilities.mean(dim=(0, 1))
        output.register_hook(  # type: ignore[no-untyped-call]
            functools.partial(self._update, layer, q, k, v, open_, causal, scaling)
        )

    def _update(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        causal: bool,
        scaling: float,
        gradient: Tensor,
    ) -> None:
        gain = relevancy_gain(
            self.row, q, k, v, mask, causal=causal, scaling=scaling, gradient=gradient[0]
        )
        # Looked at after the pass, so that a GPU need not wait for the CPU at each layer.
        self._finite[layer] = torch.isfinite(gain).all()
        self.row = self.row + gain

    def check(self, layers: int) -> None:
        """After the backward pass: every layer must have been reached, with finite numbers."""
        missed = sorted(set(range(layers)) - self._finite.keys())
        if missed:
            raise NonFiniteRelevancy(
                f"The backward pass never reached layer {missed[0]}; the map would be incomplete.",
                layer=missed[0],
            )
        for layer in sorted(self._finite, reverse=True):  # the order of the backward pass
            if not bool(self._finite[layer]):
                raise NonFiniteRelevancy(
                    f"Attention or gradient of layer {layer} holds NaN or infinity, so there is "
                    "no map. Try dtype float32.",
                    layer=layer,
                )


def relevancy_gain(
    row: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    *,
    causal: bool,
    scaling: float,
    gradient: Tensor,
) -> Tensor:
    """What one layer adds to the row: row @ Abar, float32 (S,).

    Args:
        row: float32 (S,).
        q: (H, S, D). k, v: (K, S, D), H a multiple of K. Any float dtype.
        mask: bool (S, S), True where open; None is read by ``causal``.
        scaling: factor on q . k.
        gradient: dy/dO, (S, H, D).
    """
    heads, length, _ = q.shape
    gain = torch.zeros_like(row)
    reached = torch.nonzero(row).flatten()
    if reached.numel() == 0:
        return gain
    # Rows with no weight give nothing: in the last layer that is all but the target's own.
    begin, end = int(reached[0]), int(reached[-1]) + 1
    step = max(1, BLOCK_ELEMENTS.get(q.device.type, 1 << 24) // (heads * length))
    g = gradient.transpose(0, 1)
    kf, vf = k.float(), v.float()
    for first in range(begin, end, step):
        last = min(first + step, end)
        seen = open_columns(mask, causal, first, last, length).to(q.device)
        span = torch.nonzero(seen.any(dim=0)).flatten()
        if span.numel() == 0:
            continue
        left, right = int(span[0]), int(span[-1]) + 1
        product = _softmax_product(
            q[:, first:last].float(), kf[:, left:right], seen[:, left:right], scaling
        )
        product.mul_(_grouped(g[:, first:last].float(), vf[:, left:right])).clamp_(min=0)
        weights = row[first:last].repeat(heads)
        gain[left:right] += weights @ product.view(-1, right - left)
    return gain.div_(heads)


def _grouped(x: Tensor, y: Tensor) -> Tensor:
    """x (H, n, D) times y (K, m, D) transposed, each group of H/K heads with its own: (H, n, m)."""
    heads, n, width = x.shape
    groups = y.shape[0]
    folded = x.reshape(groups, heads // groups * n, width)
    return (folded @ y.transpose(1, 2)).view(heads, n, -1)


def _softmax_product(q: Tensor, k: Tensor, seen: Tensor, scaling: float) -> Tensor:
    """softmax(q k^T * scaling) over the open columns, float32 (H, n, m)."""
    scores = _grouped(q * scaling, k)
    # A finite floor: a row that sees nothing (padding) must not become NaN.
    scores.masked_fill_(~seen, torch.finfo(scores.dtype).min)
    return torch.softmax(scores, dim=-1)


def _probabilities(
    q: Tensor, k: Tensor, mask: Tensor | None, causal: bool, scaling: float, row: int
) -> Tensor:
    """Attention of one row, float32 (H, 1, S)."""
    seen = open_columns(mask, causal, row, row + 1, k.shape[1]).to(q.device)
    return _softmax_product(q.float(), k.float(), seen, scaling)
