"""Paired bootstrap over images: the same images are drawn for every method.

Efron, Tibshirani, *An Introduction to the Bootstrap*, 1993, the percentile interval.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 10_000
LEVEL = 0.95

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean over images and its 95% interval."""

    mean: float
    low: float
    high: float

    @property
    def clears_zero(self) -> bool:
        return self.low > 0 or self.high < 0


class Paired:
    """The draws for one set of images, shared by every estimate so that differences are paired."""

    def __init__(self, images: int, seed: int, draws: int = DRAWS) -> None:
        if images < 1:
            raise ValueError("no image, no mean")
        generator = np.random.Generator(np.random.PCG64(seed))
        # How often each image is drawn, over the number of images: (draws, images).
        self._weights = generator.multinomial(images, [1 / images] * images, size=draws) / images

    def estimate(self, values: Floats) -> Estimate:
        """values: (images,), one for each image, or the difference of two methods there."""
        tail = (1 - LEVEL) / 2
        low, high = np.quantile(self._weights @ values, (tail, 1 - tail))
        return Estimate(float(values.mean()), float(low), float(high))
