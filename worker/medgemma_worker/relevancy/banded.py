"""SDPA by blocks of rows, each over the columns that it sees.

What a causal mask or a window closes costs nothing: a layer with a window costs its band and not
the square. Memory is linear in the length; beyond ``DENSE_LENGTH`` no mask is kept either, for
which each block is computed once more in the backward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from medgemma_worker.relevancy import visibility as masks
from medgemma_worker.relevancy.visibility import Visibility

WHOLE_LENGTH = {"cpu": 384, "cuda": 2048}
"""Positions up to which a layer runs SDPA in one piece."""

BLOCK_ROWS = {"cpu": 256, "cuda": 1024}
"""Rows of queries in a block. Measured on a CPU (64 to 512 tried); a guess for a GPU."""


def whole_length(query: Tensor) -> int:
    """Positions up to which one piece is right, at most those of a dense mask."""
    return min(WHOLE_LENGTH.get(query.device.type, masks.DENSE_LENGTH), masks.DENSE_LENGTH)


def banded_attention(
    query: Tensor, key: Tensor, value: Tensor, visibility: Visibility, scaling: float
) -> Tensor:
    """query (B, H, S, D); key, value (B, K, S, D): the output (B, S, H, D), contiguous."""
    output: Tensor = _Banded.apply(query, key, value, visibility, scaling)  # type: ignore[no-untyped-call]
    return output


class _Block:
    """One block of rows as a graph of its own, from copies of nothing."""

    def __init__(
        self,
        first: int,
        last: int,
        inputs: tuple[Tensor, Tensor, Tensor],
        visibility: Visibility,
        scaling: float,
    ) -> None:
        query, key, value = inputs
        seen = visibility.span(first, last)
        self.rows, self.columns = slice(first, last), slice(seen.left, seen.right)
        if visibility.length <= masks.DENSE_LENGTH:
            mask = visibility.bias(query.dtype)[:, :, self.rows, self.columns]
        else:
            mask = seen.mask(last - first, query)
        with torch.enable_grad():
            self.inputs = (
                query[:, :, self.rows].detach().requires_grad_(),
                key[:, :, self.columns].detach().requires_grad_(),
                value[:, :, self.columns].detach().requires_grad_(),
            )
            self.output = scaled_dot_product_attention(*self.inputs, attn_mask=mask, scale=scaling)


class _Banded(torch.autograd.Function):
    """The blocks' own backward passes, summed up in place: autograd's gradient of a slice is as
    long as the whole, once for each block."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, visibility: Visibility, scaling: float
    ) -> Tensor:
        ctx.save_for_backward(query, key, value)
        ctx.visibility, ctx.scaling = visibility, scaling
        keep = visibility.length <= masks.DENSE_LENGTH and any(ctx.needs_input_grad)
        ctx.blocks = [] if keep else None
        batch, heads, length, width = query.shape
        output = query.new_empty(batch, length, heads, width)
        for block in _blocks(query, key, value, visibility, scaling):
            output[:, block.rows] = block.output.detach().transpose(1, 2)
            if keep:
                ctx.blocks.append(block)
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value = ctx.saved_tensors
        groups = query.shape[1] // key.shape[1]
        into_q = torch.empty_like(query)
        into_k, into_v = (
            x.new_zeros(x.shape[0], query.shape[1], *x.shape[2:]) for x in (key, value)
        )
        blocks = ctx.blocks or _blocks(query, key, value, ctx.visibility, ctx.scaling)
        for block in blocks:
            of_q, of_k, of_v = torch.autograd.grad(
                block.output,
                block.inputs,
                gradient[:, block.rows].transpose(1, 2),
                retain_graph=ctx.blocks is not None,  # another target may follow
            )
            into_q[:, :, block.rows] = of_q
            into_k[:, :, block.columns] += of_k
            into_v[:, :, block.columns] += of_v
        summed = (x.unflatten(1, (-1, groups)).sum(dim=2) for x in (into_k, into_v))
        return into_q, *summed, None, None


def _blocks(
    query: Tensor, key: Tensor, value: Tensor, visibility: Visibility, scaling: float
) -> Iterator[_Block]:
    groups = query.shape[1] // key.shape[1]
    if groups > 1:  # not every kernel takes a mask and groups of heads at once
        key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    step = BLOCK_ROWS.get(query.device.type, 1024)
    for first in range(0, visibility.length, step):
        last = min(first + step, visibility.length)
        yield _Block(first, last, (query, key, value), visibility, scaling)
