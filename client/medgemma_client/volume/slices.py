"""A picture of the slices that matter most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from medgemma_tasks.sheet import draw_sheet

if TYPE_CHECKING:
    from PIL.Image import Image

    from medgemma_tasks.explanation import ExplanationResult
    from medgemma_tasks.models import ExplanationRecord


def draw_slices(
    record: ExplanationRecord,
    explanation: ExplanationResult,
    target: int,
    shown: Sequence[int],
    images: Sequence[Image],
) -> Image:
    """Slices side by side, each with its number, its share of the target's relevancy and its map,
    all maps on one scale: RGB.

    shown: their numbers from 0, rising. images: the slices themselves. Raises InvalidRequest where
    they are not of one size.
    """
    maps = record.targets[target].maps
    grids = [record.images[k] for k in shown]
    together = sum(maps[k].share for k in shown)
    sides = {grid.image.attributes.left_of_image for grid in grids}
    title = (
        f"{len(shown)} of {len(record.images)} images, with {together:.0%} of the relevancy; "
        f"the words have {1 - sum(one.share for one in maps):.0%}"
    )
    return draw_sheet(
        images,
        explanation.image_scores[list(shown)],
        [f"slice {k + 1}: {maps[k].share:.1%}" for k in shown],
        square=grids[0].square,
        left_of_image=sides.pop() if len(sides) == 1 else "unknown",
        title=title,
    )
