"""Which positions may look at which: the model's own mask, made block by block when asked for.

transformers builds a boolean S x S mask for each type of layer. At 22,000 positions that is half a
gigabyte each, most of it empty in layers with a window. Registered as the mask function under our
name, ``lazy_mask`` keeps what transformers would have built it from instead, and lets transformers
build the block that is wanted, with the same offsets and the same function.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers.masking_utils import sdpa_mask

DENSE_LENGTH = 2048
"""Positions up to which a mask is made whole (4 MB, and 16 MB in float32); beyond, never."""


STRIP_ROWS = 512
"""Rows of a longer mask that are made at once; smaller blocks are cut from the strip made last."""


@dataclass(frozen=True)
class Span:
    """The columns ``left..right-1`` that a block of rows sees, each by one row or more.

    shut: the parts of them that not every row sees, as first and one past the last column, and
    which places are closed there, bool (B, 1, rows, columns). All else is open.
    """

    left: int
    right: int
    shut: tuple[tuple[int, int, Tensor], ...]

    def mask(self, rows: int, like: Tensor) -> Tensor:
        """The block's mask, on the device of ``like``: bool (1 or B, 1, rows, right - left)."""
        batch = self.shut[0][2].shape[0] if self.shut else 1
        width = self.right - self.left
        mask = torch.ones(batch, 1, rows, width, dtype=torch.bool, device=like.device)
        for left, right, shut in self.shut:
            mask[..., left - self.left : right - self.left] = ~shut
        return mask


class Sight(Protocol):
    """What a layer asks of a mask; see ``Visibility``."""

    def span(self, first: int, last: int) -> Span: ...


class Everything:
    """Each of S positions sees all of them, as in a vision tower."""

    def __init__(self, length: int) -> None:
        self._all = Span(0, length, ())

    def span(self, first: int, last: int) -> Span:
        return self._all


class Visibility:
    """A mask that is not there yet. Batch of B, queries and keys 0..S-1."""

    def __init__(self, length: int, batch_size: int, arguments: dict[str, Any]) -> None:
        self.length = length
        self.batch_size = batch_size
        self._arguments = arguments
        self._dense: Tensor | None = None
        self._bias: Tensor | None = None
        self._strip: tuple[int, Tensor] | None = None
        self._spans: dict[tuple[int, int], Span] = {}

    def dense(self) -> Tensor:
        """All of it, kept: bool (B, 1, S, S). For short sequences: see ``DENSE_LENGTH``."""
        if self._dense is None:
            self._dense = self._made(0, self.length)
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

    def span(self, first: int, last: int) -> Span:
        """What rows ``first..last-1`` see, those of all sequences of the batch together.

        All layers of a type share this object, so each block of rows is looked at once. What is
        kept of it is where rows differ: near the diagonal, an image and the window's edge.
        """
        key = (first, last)
        if key not in self._spans:
            seen = self._rows(first, last)
            left, right = _range(seen.flatten(0, 2).any(dim=0))
            every = seen.flatten(0, 2).all(dim=0)
            first_shared, end_shared = _range(every)
            parts = [(left, right)]
            if first_shared < end_shared and bool(every[first_shared:end_shared].all()):
                parts = [(left, first_shared), (end_shared, right)]
            shut = tuple((a, b, ~seen[..., a:b]) for a, b in parts if a < b)
            self._spans[key] = Span(left, right, shut)
        return self._spans[key]

    def _rows(self, first: int, last: int) -> Tensor:
        """Rows ``first..last-1`` of the mask, all columns: bool (B, 1, rows, S)."""
        if self.length <= DENSE_LENGTH:
            return self.dense()[:, :, first:last]
        if self._strip is not None:
            begin, strip = self._strip
            if begin <= first and last <= begin + strip.shape[2]:
                return strip[:, :, first - begin : last - begin]
        begin = first // STRIP_ROWS * STRIP_ROWS
        strip = self._made(begin, min(max(begin + STRIP_ROWS, last), self.length))
        self._strip = begin, strip
        return strip[:, :, first - begin : last - begin]

    def _made(self, first: int, last: int) -> Tensor:
        mask: Tensor = sdpa_mask(
            batch_size=self.batch_size,
            q_length=last - first,
            kv_length=self.length,
            q_offset=first,
            kv_offset=0,
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
