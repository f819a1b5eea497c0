"""Chefer's relevancy, the row of one target.

Equations 5 and 6 of Chefer, Gur, Wolf, *Generic Attention-model Explainability for Interpreting
Bi-Modal and Encoder-Decoder Transformers*, ICCV 2021. For layer l with attention A (H heads, S x S)
and its gradient G = dy/dA:

    Abar = mean over heads of max(G * A, 0)                                   (5)
    R <- R + Abar R,   R_0 = I,   layers first to last                        (6)

Only one row of R is wanted, r = w^T R_L with weights w over the rows p-1 of the target. Row vectors
multiply from the left, so the layers may be taken last to first, the order of the backward pass:

    v_L = w,    v_{l-1} = v_l + v_l Abar_l,    r = v_0
"""

from __future__ import annotations

import torch
from torch import Tensor

from medgemma_worker.relevancy.layer import Layer
from medgemma_worker.relevancy.methods.base import Target


class Chefer:
    """r - w: the row less the identity it starts from."""

    def __init__(self, target: Target) -> None:
        self._weights = target.weights
        # Summed up apart from the identity, whose size would cost them their last digits.
        self._gained = torch.zeros_like(target.weights)

    def reach(self, layer: Layer, gradient: Tensor) -> Tensor:
        gain = layer.weighted_relevancy(self._weights + self._gained, gradient)
        self._gained = self._gained + gain
        return gain

    def finish(self, embeddings: Tensor, gradient: Tensor) -> Tensor:
        return self._gained


class CheferGlobal(Chefer):
    """The same over the layers without a window alone, as the notebook of the library that this
    project grew from has it."""

    def reach(self, layer: Layer, gradient: Tensor) -> Tensor:
        if layer.windowed:
            return torch.zeros_like(self._weights)
        return super().reach(layer, gradient)
