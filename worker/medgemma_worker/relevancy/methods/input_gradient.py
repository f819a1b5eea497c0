"""Input x gradient: |sum over the hidden width of e * dy/de| for each input embedding e.

Shrikumar, Greenside, Shcherbina, Kundaje, *Not Just a Black Box: Learning Important Features
Through Propagating Activation Differences*, 2016 (arXiv 1605.01713); absolute, since a map has no
sign.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medgemma_worker.relevancy.layer import Layer
from medgemma_worker.relevancy.methods.base import Target


class InputGradient:
    def __init__(self, target: Target) -> None:
        self._nothing = torch.zeros_like(target.weights)

    def reach(self, layer: Layer, gradient: Tensor) -> Tensor:
        return self._nothing

    def finish(self, embeddings: Tensor, gradient: Tensor) -> Tensor:
        return (embeddings.float() * gradient.float()).sum(dim=-1).abs()
