"""Direct attention of the target's rows, mean over heads: of the last layer, of the layers without
a window, of all layers. The usual baseline: it uses no gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from medgemma_worker.relevancy.layer import Layer
from medgemma_worker.relevancy.methods.base import Target


class AllAttention:
    """Mean over all layers."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._row = torch.zeros_like(target.weights)
        self._count = 0

    def takes(self, layer: Layer) -> bool:
        return True

    def reach(self, layer: Layer, gradient: Tensor) -> Tensor:
        if not self.takes(layer):
            return torch.zeros_like(self._row)
        gain = layer.weighted_attention(self._target.weights)
        self._row = self._row + gain
        self._count += 1
        return gain

    def finish(self, embeddings: Tensor, gradient: Tensor) -> Tensor:
        return self._row / max(self._count, 1)


class GlobalAttention(AllAttention):
    """Mean over the layers without a window."""

    def takes(self, layer: Layer) -> bool:
        return not layer.windowed


class LastAttention(AllAttention):
    """The last layer alone."""

    def takes(self, layer: Layer) -> bool:
        return layer.index == self._target.layers - 1
