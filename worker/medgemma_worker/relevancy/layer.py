"""One layer's attention over one sequence, recomputed in float32 by blocks of rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from medgemma_worker.relevancy.visibility import Sight

BLOCK_ELEMENTS = {"cpu": 1 << 20, "cuda": 1 << 26}
"""Elements (heads x rows x columns) of one block at most: 4 MB stays near a CPU's cache."""

BLOCK_ROWS = {"cpu": 64, "cuda": 1 << 16}
"""Rows of a block at most: the fewer, the less of what a causal mask closes is computed. On a GPU
the launches of many small products would cost more than that."""

KEPT_ROWS = {"cpu": 160, "cuda": 1 << 16}
"""The same where attention is kept for other targets: fewer, larger products are left then."""


@dataclass(frozen=True)
class Block:
    """Rows ``first..last-1`` and columns ``left..right-1`` of a layer.

    attention: float32 (H, rows, columns).
    """

    first: int
    last: int
    left: int
    right: int
    attention: Tensor


@dataclass(frozen=True)
class Layer:
    """What is needed to recompute the attention of one sequence in one layer.

    q: (H, S, D). k, v: (K, S, D), H a multiple of K. Any float dtype, no graph. ``windowed`` says
    whether the layer is one with a window. ``kept`` holds blocks that were computed for another
    target, by their rows, and takes more; None keeps none.
    """

    index: int
    q: Tensor
    k: Tensor
    v: Tensor
    visibility: Sight
    batch: int
    scaling: float
    windowed: bool
    kept: dict[tuple[int, int], Block] | None = None

    def blocks(self, weights: Tensor) -> Iterator[Block]:
        """The blocks of rows on which ``weights``, float32 (S,) or (m, S), has any weight."""
        used = weights if weights.ndim == 1 else weights.any(dim=0)
        reached = torch.nonzero(used).flatten()
        if reached.numel() == 0:
            return
        begin, end = int(reached[0]), int(reached[-1]) + 1
        if reached.numel() < end - begin and reached.numel() <= 4:
            # A few rows far apart: each on its own, and not all that lies between.
            for row in reached.tolist():
                yield from self._block(row, row + 1)
            return
        heads, length, _ = self.q.shape
        kind = self.q.device.type
        step = BLOCK_ELEMENTS.get(kind, 1 << 24) // (heads * length)
        rows = KEPT_ROWS if self.kept is not None else BLOCK_ROWS
        step = max(1, min(step, rows.get(kind, 1 << 16)))
        # On one grid in all layers, so that what a block sees is found out once.
        for first in range(begin // step * step, end, step):
            yield from self._block(first, min(first + step, length))

    def _block(self, first: int, last: int) -> Iterator[Block]:
        if self.kept is not None and (first, last) in self.kept:
            yield self.kept[first, last]
            return
        seen = self.visibility.span(first, last)
        if seen.left == seen.right:
            return
        scores = grouped(
            self.q[:, first:last].float() * self.scaling, self.k[:, seen.left : seen.right]
        )
        for left, right, shut in seen.shut:
            # A finite floor: a row that sees nothing (padding) must not become NaN.
            columns = scores[:, :, left - seen.left : right - seen.left]
            columns.masked_fill_(shut[self.batch], torch.finfo(scores.dtype).min)
        block = Block(first, last, seen.left, seen.right, torch.softmax(scores, dim=-1))
        if self.kept is not None:
            self.kept[first, last] = block
        yield block

    def weighted_attention(self, weights: Tensor) -> Tensor:
        """weights @ mean over heads of A: float32 (S,)."""
        out = torch.zeros_like(weights)
        for block in self.blocks(weights):
            _add(out, weights, block, block.attention)
        return out.div_(self.q.shape[0])

    def weighted_relevancy(self, weights: Tensor, gradient: Tensor) -> Tensor:
        """weights @ Abar, Abar the mean over heads of max(G * A, 0): float32, shaped as weights.

        weights: (S,), or (m, S) for m rows at the price of little more than one.
        gradient: dy/dO, (S, H, D). The gradient of attention is G_h = dO_h V_h^T, since O = A V.
        """
        out = torch.zeros_like(weights)
        for block in self.blocks(weights):
            _add(out, weights, block, self._relevancy(block, gradient))
        return out.div_(self.q.shape[0])

    def shared_out(self, weights: Tensor, gradient: Tensor) -> Tensor:
        """weights @ Abar with each row of Abar scaled to a sum of 1: float32 (S,).

        Arguments: see ``weighted_relevancy``. A row of zeros, or of numbers too small to scale,
        hands its weight to its own position, so the sum of the weights is kept.
        """
        out = torch.zeros_like(weights)
        for block in self.blocks(weights):
            product = self._relevancy(block, gradient)
            rows = slice(block.first, block.last)
            sums = product.sum(dim=(0, 2))
            empty = sums < torch.finfo(sums.dtype).tiny
            scaled = weights.clone()
            scaled[rows] = torch.where(empty, 0, weights[rows] / sums.where(~empty, 1))
            _add(out, scaled, block, product)
            out[rows] += torch.where(empty, weights[rows], 0)
        return out

    def heads(self, weights: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """weights @ max(G_h * A_h, 0) and weights @ A_h for each head h: float32 (H, S) twice.

        weights: (S,). gradient: as above. Their means over heads are what the two functions above
        give.
        """
        relevancy = weights.new_zeros((self.q.shape[0], weights.numel()))
        attention = torch.zeros_like(relevancy)
        for block in self.blocks(weights):
            rows = weights[block.first : block.last]
            attention[:, block.left : block.right] += rows @ block.attention
            relevancy[:, block.left : block.right] += rows @ self._relevancy(block, gradient)
        return relevancy, attention

    def _relevancy(self, block: Block, gradient: Tensor) -> Tensor:
        """max(G * A, 0) of a block: float32 (H, rows, columns)."""
        g = gradient[block.first : block.last].transpose(0, 1).float()
        product = grouped(g, self.v[:, block.left : block.right])
        # A is never negative, so max(G * A, 0) is max(G, 0) * A.
        return product.clamp_(min=0).mul_(block.attention)


def _add(out: Tensor, weights: Tensor, block: Block, values: Tensor) -> None:
    """Add the rows of ``values`` (H, rows, columns), weighted, to their columns of ``out``."""
    # One product over heads and rows at once, with the same weights for each head.
    rows = torch.cat([weights[..., block.first : block.last]] * values.shape[0], dim=-1)
    out[..., block.left : block.right] += rows @ values.view(rows.shape[-1], -1)


def grouped(x: Tensor, y: Tensor) -> Tensor:
    """x (H, n, D) times y (K, m, D) transposed, each group of H/K heads with its own: (H, n, m)."""
    heads, n, width = x.shape
    groups = y.shape[0]
    folded = x.reshape(groups, heads // groups * n, width)
    return (folded @ y.float().transpose(1, 2)).view(heads, n, -1)
