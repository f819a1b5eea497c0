"""The target's own row of gradient-weighted attention, summed over layers.

The first-order part of Chefer's rule (equations 5 and 6, ICCV 2021): w^T sum_l Abar_l, without the
products of layers. In a causal model the rows of image tokens add little to them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medgemma_worker.relevancy.layer import Layer
from medgemma_worker.relevancy.methods.base import Target


class OwnRow:
    def __init__(self, target: Target) -> None:
        self._weights = target.weights
        self._row = torch.zeros_like(target.weights)

    def reach(self, layer: Layer, gradient: Tensor) -> Tensor:
        gain = layer.weighted_relevancy(self._weights, gradient)
        self._row = self._row + gain
        return gain

    def finish(self, embeddings: Tensor, gradient: Tensor) -> Tensor:
        return self._row
