"""What a method is: fed layer by layer, last first, it ends with one row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from medgemma_worker.relevancy.layer import Layer


@dataclass(frozen=True)
class Target:
    """What one row explains.

    weights: float32 (S,), 1/n at the n rows p-1. layers: how many there are. images: first and one
    past the last position of each image's tokens.
    """

    weights: Tensor
    layers: int
    images: Sequence[tuple[int, int]]


class Method(Protocol):
    """One method at work on one target of one sequence."""

    def reach(self, layer: Layer, gradient: Tensor) -> Tensor:
        """Take one layer; gradient is dy/dO, (S, H, D). Returns what it added, float32 (..., S)."""

    def finish(self, embeddings: Tensor, gradient: Tensor) -> Tensor:
        """The row, float32 (S,), or rows, (..., S). Both arguments are (S, hidden): the input and
        dy/dinput."""
