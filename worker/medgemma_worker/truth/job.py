"""The two areas of maps of one question, each under the map's own order of cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medgemma_worker.truth.curves import (
    CURVES,
    Curve,
    area,
    normalised,
    ranking,
    shown_cells,
    steps,
)
from medgemma_worker.truth.perturb import Covering, Fill
from medgemma_worker.truth.score import BATCH, Scorer

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor
    from transformers import Gemma3ForConditionalGeneration, Gemma3Processor

LEAST_GAIN = 1.0
"""log p(whole) - log p(covered), in nats, above which a target depends on the image."""


@dataclass(frozen=True)
class Areas:
    """How the target's probability falls and comes back as cells go and come in a map's order.

    counts: cells deleted or inserted at each step. values: for each curve the normalised
    probabilities, float64 (steps,). deletion: area, low is good. insertion: area, high is good.
    """

    counts: tuple[int, ...]
    values: Mapping[Curve, NDArray[np.float64]]

    @property
    def deletion(self) -> float:
        return area(self.values["deletion"], self.counts)

    @property
    def insertion(self) -> float:
        return area(self.values["insertion"], self.counts)


@dataclass(frozen=True)
class Scored:
    """The areas of each map of a question; none where the target does not depend on the image.

    log_whole, log_covered: natural log of p of the target with all cells shown, and with none.
    """

    log_whole: float
    log_covered: float
    areas: Mapping[str, Areas]

    @property
    def depends(self) -> bool:
        """Where the blurred image gives the same word, no order of its cells means anything."""
        return self.log_whole - self.log_covered > LEAST_GAIN


def areas(
    model: Gemma3ForConditionalGeneration,
    processor: Gemma3Processor,
    images: Sequence[Image],
    token_ids: Tensor,
    kinds: Tensor,
    positions: Sequence[int],
    maps: Mapping[str, NDArray[np.floating]],
    *,
    fill: Fill = "blur",
    seed: int = 0,
    batch: int = BATCH,
) -> Scored:
    """Score maps of one target, all over the same variants of the images.

    Args:
        images: as the processor gets them, that is already padded to a square if they were.
        token_ids, kinds: int64 (T,), the prompt with its frozen answer; kinds is 1 on image tokens.
        positions: the target's tokens, ascending, after all the images.
        maps: by name, (n, rows, columns): one grid for each image. The cells of all of them are
            ordered together.
        seed: of the order of equal scores.

    A forward pass for each different variant: at most 2 x 8 for a map of one image of 256 cells,
    and two besides.
    """
    covering = Covering(images, fill)
    scorer = Scorer(model, processor, token_ids, kinds, positions, covering, batch=batch)
    shape = next(iter(maps.values())).shape
    grid = (len(images), shape[-2], shape[-1])
    nothing, everything = np.zeros(grid, dtype=np.bool_), np.ones(grid, dtype=np.bool_)
    whole, covered = scorer.log_p([everything, nothing]).tolist()
    bare = Scored(whole, covered, {})
    if not bare.depends:
        return bare
    counts = steps(everything.size)
    orders = {name: ranking(scores, seed) for name, scores in maps.items()}
    log_p = scorer.log_p(
        [
            shown_cells(order, count, curve, grid)
            for order in orders.values()
            for curve in CURVES
            for count in counts
        ]
    ).reshape(len(orders), len(CURVES), len(counts))
    values = normalised(log_p, whole, covered)
    return Scored(
        whole,
        covered,
        {
            name: Areas(counts, dict(zip(CURVES, values[i], strict=True)))
            for i, name in enumerate(orders)
        },
    )
