"""Attention rollout: Abnar, Zuidema, *Quantifying Attention Flow in Transformers*, ACL 2020.

The product over layers of (A + I) / 2, A the mean over heads; here one row of it, taken last layer
first: v <- (v + v A) / 2. It uses no gradient.
"""

from __future__ import annotations

from torch import Tensor

from medgemma_worker.relevancy.layer import Layer
from medgemma_worker.relevancy.methods.base import Target


class Rollout:
    def __init__(self, target: Target) -> None:
        self._row = target.weights.clone()

    def reach(self, layer: Layer, gradient: Tensor) -> Tensor:
        gain = layer.weighted_attention(self._row)
        self._row = (self._row + gain) / 2
        return gain

    def finish(self, embeddings: Tensor, gradient: Tensor) -> Tensor:
        return self._row
