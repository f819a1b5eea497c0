"""Pooling windows: the patches that one image token is the mean of."""

from __future__ import annotations

from torch import Tensor


def to_windows(patches: Tensor, tokens: int) -> Tensor:
    """Patches of a square grid, (..., N), by the token they are pooled into: (..., tokens, K).

    Both grids, and the patches of a window, are read row by row.
    """
    *batch, count = patches.shape
    side, width = _sides(tokens, count)
    grid = patches.reshape(*batch, side, width, side, width).transpose(-3, -2)
    return grid.reshape(*batch, tokens, count // tokens)


def from_windows(windows: Tensor) -> Tensor:
    """The way back: (..., tokens, K) to (..., N)."""
    *batch, tokens, of_token = windows.shape
    side, width = _sides(tokens, tokens * of_token)
    grid = windows.reshape(*batch, side, side, width, width).transpose(-3, -2)
    return grid.reshape(*batch, tokens * of_token)


def spread(totals: Tensor, weights: Tensor) -> Tensor:
    """Each token's total over its patches, in proportion to their weights.

    totals: (..., tokens). weights: (..., N), none negative. Where all of a window are 0, in equal
    parts. Returns (..., N); the sums over the windows are the totals.
    """
    parts = to_windows(weights, totals.shape[-1])
    # By the largest first: a sum of very small numbers would lose digits, or be 0.
    largest = parts.amax(dim=-1, keepdim=True)
    parts = (parts / largest).where(largest > 0, 1)
    return from_windows(totals[..., None] * (parts / parts.sum(dim=-1, keepdim=True)))


def _sides(tokens: int, patches: int) -> tuple[int, int]:
    """Tokens on a side of the image, and patches on a side of a window."""
    return round(tokens**0.5), round((patches / tokens) ** 0.5)
