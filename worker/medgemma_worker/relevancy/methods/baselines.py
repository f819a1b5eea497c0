"""Maps that know nothing of the model: what any method must beat."""

from __future__ import annotations

import torch
from torch import Tensor

from medgemma_worker.relevancy.layer import Layer
from medgemma_worker.relevancy.methods.base import Target

SEED = 0
"""Of the random map, with the length added to it."""

WIDTH = 0.25
"""Standard deviation of the Gaussian, as a part of the image's side."""


class Random:
    """Uniform noise on every position: one map for all sequences of a length, whatever the target,
    and in a batch of the longest's. Over many images that is a lucky or an unlucky map and not
    chance, so ``truth.evaluate`` draws one for each image."""

    def __init__(self, target: Target) -> None:
        self._like = target.weights

    def reach(self, layer: Layer, gradient: Tensor) -> Tensor:
        return torch.zeros_like(self._like)

    def finish(self, embeddings: Tensor, gradient: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(SEED + self._like.numel())
        return torch.rand(self._like.numel(), generator=generator).to(self._like.device)


class CentredGaussian(Random):
    """A bump in the middle of each image: where most findings are drawn, whatever the model."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._images = target.images

    def finish(self, embeddings: Tensor, gradient: Tensor) -> Tensor:
        row = torch.zeros_like(self._like)
        for first, end in self._images:
            side = round((end - first) ** 0.5)
            place = (torch.arange(side, device=row.device) + 0.5) / side - 0.5
            bump = torch.exp(-0.5 * (place / WIDTH) ** 2)
            row[first:end] = torch.outer(bump, bump).flatten()
        return row
