"""Which positions may look at which: the model's own mask, made block by block when asked for.

transformers builds a boolean S x S mask for each type of layer. At 22,000 positions that is half a
gigabyte each, most of it empty in layers with a window. Registered as the mask function under our
name, ``lazy_mask`` keeps what transformers would have built it from instead, and lets transformers
build the block that is wanted, with the same offsets and the same function.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.masking_utils import sdpa_mask

DENSE_LENGTH = 4096
"""Positions up to which a mask is made whole (16 MB, and 64 MB in float32); beyond, never."""


class Span(NamedTuple):
    """The columns ``left..right-1`` that a block of rows sees, each by one row or more.

    mixed: the parts of them that not every row sees, so that a mask is needed there and only there.
    """

    left: int
    right: int
    mixed: tuple[tuple[int, int], ...]


class Visibility:
    """A mask that is not there yet. Batch of B, queries and keys 0..S-1."""

    def __init__(self, length: int, batch_size: int, arguments: dict[str, Any]) -> None:
        self.length = length
        self.batch_size = batch_size
        self._arguments = arguments
        self._dense: Tensor | None = None
        self._bias: Tensor | None = None
        self._spans: dict[tuple[int, int, int], Span] = {}

    def block(self, first: int, last: int, left: int, right: int) -> Tensor:
        """Rows ``first..last-1``, columns ``left..right-1``: bool (B, 1, rows, columns)."""
        if self.length <= DENSE_LENGTH:
            return self.dense()[:, :, first:last, left:right]
        return self._made(first, last, left, right)

    def dense(self) -> Tensor:
        """All of it, kept: bool (B, 1, S, S). For short sequences: see ``DENSE_LENGTH``."""
        if self._dense is None:
            self._dense = self._made(0, self.length, 0, self.length)
        return self._dense

    def bias(self, dtype: torch.dtype) -> Tensor:
        """The same as SDPA adds it, 0 and -inf: (B, 1, S, S). All layers of a type share it.

        From a boolean mask SDPA would make one in each layer, and keep each until the backward
        pass.
        """
        if self._bias is None or self._bias.dtype != dtype:
            zeros = torch.zeros((), dtype=dtype, device=self.dense().device)
            self._bias = torch.where(self.dense(), zeros, float("-inf"))
        return self._bias

    def span(self, first: int, last: int, batch: int = 0) -> Span:
        """The columns that rows ``first..last-1`` of one sequence see.

        All layers of a type share this object, so each block of rows is looked at once.
        """
        key = (first, last, batch)
        if key not in self._spans:
            block = self.block(first, last, 0, self.length)[batch, 0]
            left, right = _range(block.any(dim=0))
            first_shared, end_shared = _range(block.all(dim=0))
            mixed = [(left, right)]
            if first_shared < end_shared and bool(block[:, first_shared:end_shared].all()):
                mixed = [(left, first_shared), (end_shared, right)]
            self._spans[key] = Span(left, right, tuple(part for part in mixed if part[0] < part[1]))
        return self._spans[key]

    def _made(self, first: int, last: int, left: int, right: int) -> Tensor:
        mask: Tensor = sdpa_mask(
            batch_size=self.batch_size,
            q_length=last - first,
            kv_length=right - left,
            q_offset=first,
            kv_offset=left,
            allow_is_causal_skip=False,
            **self._arguments,
        )
        return mask


def _range(columns: Tensor) -> tuple[int, int]:
    """First and one past the last column that is true; (0, 0) for none."""
    found = torch.nonzero(columns).flatten()
    return (int(found[0]), int(found[-1]) + 1) if found.numel() else (0, 0)


def lazy_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int = 0,
    kv_offset: int = 0,
    allow_is_causal_skip: bool = True,
    **arguments: Any,
) -> Tensor | Visibility | None:
    """The mask function to register: lazy for a whole sequence, transformers' own for decoding."""
    # The shortcut to no mask at all is not taken: None would have to be read by is_causal.
    whole = q_length == kv_length and not q_offset and not kv_offset and q_length > 1
    if whole:
        return Visibility(q_length, batch_size, arguments)
    mask: Tensor | None = sdpa_mask(
        batch_size=batch_size,
        q_length=q_length,
        kv_length=kv_length,
        q_offset=q_offset,
        kv_offset=kv_offset,
        allow_is_causal_skip=allow_is_causal_skip,
        **arguments,
    )
    return mask
