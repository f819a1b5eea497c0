"""The boxes of a localization answer as a part of the page: outlines on the image, and a list."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medgemma_client.report.figures import Outline
from medgemma_tasks.boxes import AnswerBoxes, LocatedBox, locate, on_image
from medgemma_tasks.boxes_picture import MOST, line_of
from medgemma_tasks.models import ImageGrid
from medgemma_tasks.pictures import percent

_STROKE = 2
"""CSS pixels: the width of an outline, which its dashes are measured in."""


@dataclass(frozen=True, repr=False)
class BoxRow:
    """A line of the list. sample: how the box is outlined."""

    sample: Outline
    label: str
    share: str
    area: str


@dataclass(frozen=True, repr=False)
class BoxesView:
    """The boxes as outlines on the image, and what each holds of the first target's map.

    more: boxes beyond the `MOST` that are shown; left_out: what made no box.
    """

    outlines: tuple[Outline, ...]
    rows: list[BoxRow]
    more: int
    left_out: int


def boxes_view(boxes: AnswerBoxes, grid: ImageGrid, scores: NDArray[np.float32]) -> BoxesView:
    """The boxes on the one image of a record. scores: its map, float32 (rows, columns), as
    computed."""
    size = (grid.image.width, grid.image.height)
    shown = list(locate(AnswerBoxes(boxes.found[:MOST], 0), scores, grid.square))
    outlines = tuple(_outline(index, box, size) for index, box in enumerate(shown))
    return BoxesView(
        outlines=outlines,
        rows=[
            BoxRow(
                sample=outline,
                label=("" if on_image(box.box, size) else "outside of the image: ")
                + (box.label.strip() or "no label"),
                share="none" if box.share is None else percent(box.share),
                area=percent(box.area),
            )
            for outline, box in zip(outlines, shown, strict=True)
        ],
        more=len(boxes.found) - len(shown),
        left_out=boxes.left_out,
    )


def _outline(index: int, box: LocatedBox, size: tuple[int, int]) -> Outline:
    colour, dashes = line_of(index)
    left, top, right, bottom = box.box
    across, down = 100 / size[0], 100 / size[1]
    dash, gap = (length * _STROKE for length in dashes)
    return Outline(
        left=round(left * across, 3),
        top=round(top * down, 3),
        width=round((right - left) * across, 3),
        height=round((bottom - top) * down, 3),
        colour="#{:02x}{:02x}{:02x}".format(*colour),
        dashes=f"{dash} {gap}" if gap else "none",
    )
