"""Boxes in a localization answer: read, placed on the image, and weighed with its map.

MedGemma 1.5 answers such a question with JSON, as a rule fenced: a list of objects, or one, with
the keys ``box_2d``, [y0, x0, y1, x1] in 0..1000 of the square that it saw, and ``label``
(Google's localization notebook of MedGemma 1.5). Nothing is guessed: what is not a whole box is
left out, and counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from medgemma_tasks.geometry import Box, FloatMap, cell_box, check_scores

SCALE = 1000
"""What the model calls the far edge of its square."""

_BRACE = re.compile(r"\{")
_INSIDE = re.compile(r'[{}]|"[^"\\\n]*(?:\\.[^"\\\n]*)*(?P<end>")?')
"""A brace, or a string to its end; JSON's strings do not go on over a line."""
_KEY = re.compile(r"""(["'])box_2d\1\s*:""")


@dataclass(frozen=True, repr=False)
class AnswerBox:
    """A box as the model wrote it: label is empty where it wrote none."""

    label: str
    box_2d: tuple[float, float, float, float]
    """Top, left, bottom, right, each 0..`SCALE`; top above bottom, left before right."""


@dataclass(frozen=True, repr=False)
class AnswerBoxes:
    """All boxes of an answer, in its order. left_out: how many ``box_2d`` made no box."""

    found: tuple[AnswerBox, ...]
    left_out: int


@dataclass(frozen=True, repr=False)
class LocatedBox:
    """A box on an image, and what one target's map holds in it."""

    label: str
    box: Box
    """Left, top, right, bottom in pixels of the original image, not rounded. It reaches beyond the
    image where the model put it into the padding."""
    share: float | None
    """Part of the map's relevancy in the box, 0..1; None where the map holds none."""
    area: float
    """Part of the map's area, padding included, that the box covers: what an even map's ``share``
    would be."""


@dataclass(frozen=True, repr=False)
class LocatedBoxes:
    """All boxes of an answer on an image, in the answer's order; iterable."""

    found: tuple[LocatedBox, ...]
    left_out: int

    def __iter__(self) -> Iterator[LocatedBox]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)


def read_boxes(answer: str) -> AnswerBoxes:
    """The boxes of an answer, whatever stands around them, in time that grows with its length.

    A box is a JSON object without objects in it, whose ``box_2d`` is four numbers of 0..1000 in
    order, and whose ``label``, if it has one, is text. Of an answer that was cut off, the objects
    that are whole count. Never raises.
    """
    found = tuple(box for text in _objects(answer) if (box := _box(text)) is not None)
    return AnswerBoxes(found, max(0, len(_KEY.findall(answer)) - len(found)))


def locate(boxes: AnswerBoxes, scores: FloatMap, square: Box) -> LocatedBoxes:
    """The boxes in pixels of the original image, with their share of its map.

    scores: relevancy as computed, float32 (rows, columns). square: where its grid lies on the image
    (`geometry.grid_square`): what the model saw as its square, padded or stretched. Raises
    `NonFiniteRelevancy`, `InternalError` for no 2-D grid.
    """
    placed = [(box.label, _on_image(box, square)) for box in boxes.found]
    width, height = square[2] - square[0], square[3] - square[1]
    return LocatedBoxes(
        tuple(
            LocatedBox(
                label,
                box,
                box_share(scores, box, square),
                (box[2] - box[0]) * (box[3] - box[1]) / (width * height),
            )
            for label, box in placed
        ),
        boxes.left_out,
    )


def box_share(scores: FloatMap, box: Box, square: Box) -> float | None:
    """The part of a map's relevancy that lies in a box, 0..1; None where there is none to part.

    A cell that the box cuts counts with the part of its area that lies in the box, as if its
    relevancy lay evenly in it. The whole is all of this image's map, its padding included. Negative
    values count as none, as in `zones.zone_shares`. Errors as in `locate`.
    """
    positive = np.maximum(check_scores(scores).astype(np.float64), 0.0)
    largest = float(positive.max())
    if largest == 0.0:
        return None
    rows, columns = positive.shape
    down = [cell_box((row, 0), (rows, columns), square)[1::2] for row in range(rows)]
    across = [cell_box((0, column), (rows, columns), square)[::2] for column in range(columns)]
    positive /= largest  # a sum of huge values would be infinite
    parts = np.outer(_parts(down, box[1], box[3]), _parts(across, box[0], box[2]))
    return min(1.0, float(np.sum(parts * positive) / positive.sum()))


def on_image(box: Box, size: tuple[int, int]) -> Box | None:
    """The part of a box that lies on an image of this width and height; None if none does."""
    left, top = max(box[0], 0.0), max(box[1], 0.0)
    right, bottom = min(box[2], float(size[0])), min(box[3], float(size[1]))
    return (left, top, right, bottom) if left < right and top < bottom else None


def _on_image(box: AnswerBox, square: Box) -> Box:
    y0, x0, y1, x1 = box.box_2d
    left, top, right, bottom = square
    across, down = (right - left) / SCALE, (bottom - top) / SCALE
    return (left + x0 * across, top + y0 * down, left + x1 * across, top + y1 * down)


def _parts(cells: Sequence[tuple[float, ...]], start: float, stop: float) -> NDArray[np.float64]:
    """How much of each cell's length lies between two places: (cells,), 0..1."""
    low, high = np.array(cells).T
    overlap = np.minimum(high, stop) - np.maximum(low, start)
    return np.asarray(np.maximum(overlap, 0.0) / (high - low))


def _objects(text: str) -> Iterator[str]:
    """The texts of all innermost pairs of braces; a brace in a string is no brace."""
    start, place = None, 0
    while mark := (_BRACE if start is None else _INSIDE).search(text, place):
        place = mark.end()
        if mark[0] == "{":
            start = mark.start()
        elif mark[0] == "}":
            yield text[start:place]
            start = None
        elif mark["end"] is None:
            start = None  # a string that does not end: cut off, or prose


def _box(text: str) -> AnswerBox | None:
    try:
        said = json.loads(text, parse_constant=_refuse, object_pairs_hook=_unambiguous)
    except (ValueError, RecursionError):
        return None
    place, label = said.get("box_2d"), said.get("label")
    if not isinstance(place, list) or len(place) != 4 or not all(map(_on_scale, place)):
        return None
    y0, x0, y1, x1 = (float(number) for number in place)
    if not (y0 < y1 and x0 < x1) or not isinstance(label, str | None):
        return None
    return AnswerBox(label or "", (y0, x0, y1, x1))


def _on_scale(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value <= SCALE  # type: ignore[operator]


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)
