"""Which positions may look at which: the model's own mask, made block by block when asked for.

transformers builds a boolean S x S mask for each type of layer. At 22,000 positions that is half a
gigabyte each, most of it empty in layers with a window. Registered as the mask function under our
name, ``lazy_mask`` keeps what transformers would have built it from instead, and lets transformers
build the block that is wanted, with the same offsets and the same function.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from transformers.masking_utils import sdpa_mask


class Sight(Protocol):
    """What a layer asks of a mask; see ``Visibility``."""

    def block(self, first: int, last: int, left: int, right: int) -> Tensor: ...

    def span(self, first: int, last: int, batch: int = 0) -> tuple[int, int]: ...


class Everything:
    """Each of S positions sees all of them, as in a vision tower."""

    def __init__(self, length: int, device: torch.device) -> None:
        self._length = length
        self._seen = torch.ones((), dtype=torch.bool, device=device)

    def block(self, first: int, last: int, left: int, right: int) -> Tensor:
        return self._seen.expand(1, 1, last - first, right - left)

    def span(self, first: int, last: int, batch: int = 0) -> tuple[int, int]:
        return 0, self._length


class Visibility:
    """A mask that is not there yet. Batch of B, queries and keys 0..S-1."""

    def __init__(self, length: int, batch_size: int, arguments: dict[str, Any]) -> None:
        self.length = length
        self.batch_size = batch_size
        self._arguments = arguments
        self._dense: Tensor | None = None
        self._spans: dict[tuple[int, int, int], tuple[int, int]] = {}

    def block(self, first: int, last: int, left: int, right: int) -> Tensor:
        """Rows ``first..last-1``, columns ``left..right-1``: bool (B, 1, rows, columns)."""
        if self._dense is not None:
            return self._dense[:, :, first:last, left:right]
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

    def dense(self) -> Tensor:
        """All of it, kept: bool (B, 1, S, S)."""
        if self._dense is None:
            self._dense = self.block(0, self.length, 0, self.length)
        return self._dense

    def span(self, first: int, last: int, batch: int = 0) -> tuple[int, int]:
        """The columns that rows ``first..last-1`` of one sequence can see: left, one past right.

        All layers of a type share this object, so each block of rows is looked at once.
        """
        key = (first, last, batch)
        if key not in self._spans:
            seen = self.block(first, last, 0, self.length)[batch, 0].any(dim=0)
            columns = torch.nonzero(seen).flatten()
            found = (int(columns[0]), int(columns[-1]) + 1) if columns.numel() else (0, 0)
            self._spans[key] = found
        return self._spans[key]


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
