"""What a page shows of a record that succeeded: first as its first target has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medgemma_client.report.boxes import BoxesView, boxes_view
from medgemma_client.report.figures import (
    Figure,
    Legend,
    Shown,
    check_map,
    embedded_edge,
    legend,
    plain_figure,
    with_map,
)
from medgemma_client.report.text import Tokens, shaded_tokens
from medgemma_client.report.where import ZoneTable, zone_table
from medgemma_client.report.words import Choices, choices, title
from medgemma_client.volume.places import is_volume, most_relevant
from medgemma_tasks.boxes import AnswerBoxes
from medgemma_tasks.errors import InvalidRequest
from medgemma_tasks.models import ExplanationRecord, TargetRecord

SIDE_BY_SIDE = 6
"""Images that are shown beside each other; of more, as of a volume, one at a time."""
ON_PAPER = 6
"""Images of a volume that are printed, and shown without JavaScript: the most relevant ones."""

Maps = NDArray[np.float32]


@dataclass(frozen=True)
class Share:
    """A part of the whole: ``text`` in per cent."""

    name: str
    share: float
    text: str


@dataclass(frozen=True, repr=False)
class Explained:
    """What the page shows. sliced: one image at a time. noun: what an image is called. boxes: where
    the answer has any and there is one image that they must be on. titles: of all targets."""

    figures: list[Figure]
    sliced: bool
    noun: str
    peak_image: int
    legend: Legend | None
    boxes: BoxesView | None
    choices: Choices
    titles: list[str]
    shares: list[Share]
    own: str
    zones: list[ZoneTable]
    tokens: Tokens | None
    areas: str | None
    fine: tuple[int, int] | None
    coarse: tuple[int, int]


def explained(
    record: ExplanationRecord,
    images: Sequence[Image.Image],
    maps: Sequence[Maps],
    fine: Sequence[Maps | None],
    boxes: AnswerBoxes,
) -> Explained | None:
    """maps: for each target float32 (n, rows, columns), unscaled; fine: the same over patches, or
    None. None where the record has no target.

    Raises `InvalidRequest` where images, maps and record do not belong together.
    """
    _check(record, images, maps, fine)
    if not record.targets:
        return None
    target, scores = record.targets[0], maps[0]
    figures = _figures(record, images, target, scores)
    volume = is_volume(record.images)
    sliced = volume or len(figures) > SIDE_BY_SIDE
    peak = int(np.argmax(scores.reshape(len(scores), -1).max(axis=1))) if len(scores) else 0
    if sliced:
        shown = set(most_relevant([one.share for one in target.maps], ON_PAPER))
        figures = [
            figure if k in shown else replace(figure, matters=False, layer=None)
            for k, figure in enumerate(figures)
        ]
    located = None
    if len(figures) == 1 and (boxes.found or boxes.left_out):
        located = boxes_view(boxes, record.images[0], scores[0])
        figures = [replace(figures[0], boxes=located.outlines)]
    spans = [one.span for one in record.targets]
    tabled = [peak] if sliced else range(len(figures))
    first_fine = next((one for one in fine if one is not None), None)
    return Explained(
        figures=figures,
        sliced=sliced,
        noun="slice" if volume else "image",
        peak_image=peak,
        legend=legend(target.low, target.high, list(scores)) if figures else None,
        boxes=located,
        choices=choices(record.answer or "", spans),
        titles=[title(span) for span in spans],
        shares=[
            Share(name, part, f"{part:.1%}") for name, part in target.shares.model_dump().items()
        ],
        own=f"{target.own_relevancy:.3g}",
        zones=[table for k in tabled if (table := zone_table(record, 0, k))],
        tokens=shaded_tokens(record.tokens, target),
        areas=areas_text(target),
        fine=None if first_fine is None else (first_fine.shape[1], first_fine.shape[2]),
        coarse=(scores.shape[1], scores.shape[2]),
    )


def areas_text(target: TargetRecord) -> str | None:
    """How true the map is, in a sentence, where it was measured."""
    areas = target.areas
    if areas is None:
        return None
    if areas.deletion is None or areas.insertion is None:
        return (
            "Covering the images hardly changes the target: no map of them could be true or false."
        )
    return (
        f"Covering cells in the map's order, deletion area {areas.deletion:.3f} (low is good); "
        f"uncovering them, insertion area {areas.insertion:.3f} (high is good)."
    )


def _figures(
    record: ExplanationRecord, images: Sequence[Image.Image], target: TargetRecord, scores: Maps
) -> list[Figure]:
    edge = embedded_edge(len(images))
    made = []
    for k, (image, grid, one) in enumerate(zip(images, record.images, target.maps, strict=True)):
        shown = Shown(grid.rows, grid.columns, grid.square, target.low, target.high, one.peak_cell)
        plain = plain_figure(k + 1, image, grid.image, edge)
        made.append(with_map(plain, shown, scores[k], one.share))
    return made


def _check(
    record: ExplanationRecord,
    images: Sequence[Image.Image],
    maps: Sequence[Maps],
    fine: Sequence[Maps | None],
) -> None:
    """Each map is the one that the record describes."""
    if not len(maps) == len(fine) == len(record.targets):
        raise InvalidRequest(
            f"The record has {len(record.targets)} targets; maps of {len(maps)} were given."
        )
    for target, coarse, finer in zip(record.targets, maps, fine, strict=True):
        low, high = target.low, target.high
        _agree(
            record,
            images,
            [
                Shown(grid.rows, grid.columns, grid.square, low, high, one.peak_cell)
                for grid, one in zip(record.images, target.maps, strict=True)
            ],
            coarse,
        )
        if finer is None and target.fine is None:
            continue
        ends = target.fine
        peaks = ends.peaks if ends else ()
        _agree(
            record,
            images,
            [
                Shown(grid.fine.rows, grid.fine.columns, grid.square, ends.low, ends.high, peak)
                for grid, peak in zip(record.images, peaks, strict=False)
                if ends and grid.fine
            ],
            () if finer is None else finer,
        )


def _agree(
    record: ExplanationRecord,
    images: Sequence[Image.Image],
    shown: Sequence[Shown],
    maps: Maps | Sequence[Maps],
) -> None:
    if not len(shown) == len(maps) == len(images) == len(record.images):
        raise InvalidRequest(
            f"The record has {len(record.images)} images; {len(images)} images and {len(maps)} "
            "maps were given."
        )
    for number, (one, scores) in enumerate(zip(shown, maps, strict=True), start=1):
        check_map(number, one, np.asarray(scores, np.float32))
