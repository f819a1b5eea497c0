"""The targets of a record as parts of its page: figures, legend, shares and words of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medgemma_client.report.boxes import BoxesView, boxes_view
from medgemma_client.report.figures import (
    Figure,
    Legend,
    Shown,
    embedded_edge,
    legend,
    mapped_figure,
)
from medgemma_client.report.text import Tokens, shaded_tokens
from medgemma_tasks.boxes import AnswerBoxes, read_boxes
from medgemma_tasks.errors import InvalidRequest
from medgemma_tasks.models import ExplanationRecord, ImageMap, Shares, Span, TargetRecord
from medgemma_tasks.zones import in_words

MOST = 12
"""Targets that a page shows: each carries its own pictures."""

_EDGE_OF_OTHERS = 448
"""Longest edge, in pixels, at which images are embedded again for the second target on."""


@dataclass(frozen=True)
class Share:
    """A part of the whole: ``text`` in per cent."""

    name: str
    share: float
    text: str


@dataclass(frozen=True, repr=False)
class TargetView:
    """One target as the page shows it. fine: the maps over patches, where there are any. boxes:
    those of the answer, where it has any and there is one image that they must be on."""

    title: str
    figures: list[Figure]
    legend: Legend | None
    fine: list[Figure]
    fine_legend: Legend | None
    boxes: BoxesView | None
    shares: list[Share]
    tokens: Tokens | None
    own: str
    areas: str | None


Maps = NDArray[np.float32]


def target_views(
    record: ExplanationRecord,
    images: Sequence[Image.Image],
    maps: Sequence[Maps],
    fine: Sequence[Maps | None],
) -> list[TargetView]:
    """The first `MOST` targets. maps: for each target float32 (n, rows, columns), unscaled; fine:
    the same over patches, or None.

    Raises `InvalidRequest` where images, maps and record do not belong together.
    """
    if not len(maps) == len(fine) == len(record.targets):
        raise InvalidRequest(
            f"The record has {len(record.targets)} targets; maps of {len(maps)} were given."
        )
    boxes = read_boxes(record.answer or "")
    return [
        _view(index, target, record, images, maps[index], fine[index], boxes)
        for index, target in enumerate(record.targets[:MOST])
    ]


def _view(
    index: int,
    target: TargetRecord,
    record: ExplanationRecord,
    images: Sequence[Image.Image],
    maps: Maps,
    fine: Maps | None,
    boxes: AnswerBoxes,
) -> TargetView:
    edge = embedded_edge(len(images))
    if index:
        edge = min(edge, _EDGE_OF_OTHERS)
    coarse_shown = [
        Shown(grid.rows, grid.columns, grid.square, target.low, target.high, shown.peak_cell)
        for grid, shown in zip(record.images, target.maps, strict=True)
    ]
    figures = _figures(record, images, coarse_shown, maps, [_notes(m) for m in target.maps], edge)
    fine_shown = [
        Shown(grid.fine.rows, grid.fine.columns, grid.square, ends.low, ends.high, peak)
        for ends in ([target.fine] if target.fine else [])
        for grid, peak in zip(record.images, ends.peaks, strict=True)
        if grid.fine
    ]
    finer = []
    if fine is not None or fine_shown:
        given = () if fine is None else fine
        finer = _figures(record, images, fine_shown, given, [[]] * len(images), edge)
    return TargetView(
        title=title(target.span),
        figures=figures,
        legend=legend(target.low, target.high, list(maps)) if figures else None,
        fine=finer,
        fine_legend=legend(target.fine.low, target.fine.high, list(fine))
        if target.fine and fine is not None
        else None,
        boxes=boxes_view(boxes, record.images[0], figures[0], maps[0])
        if len(figures) == 1 and (boxes.found or boxes.left_out)
        else None,
        shares=_shares(target.shares),
        tokens=shaded_tokens(record.tokens, target),
        own=f"{target.own_relevancy:.4g}",
        areas=_areas(target),
    )


def _figures(
    record: ExplanationRecord,
    images: Sequence[Image.Image],
    shown: Sequence[Shown],
    maps: Maps | Sequence[Maps],
    notes: Sequence[Sequence[str]],
    edge: int,
) -> list[Figure]:
    if not len(shown) == len(maps) == len(images) == len(record.images):
        raise InvalidRequest(
            f"The record has {len(record.images)} images; {len(images)} images and {len(maps)} "
            "maps were given."
        )
    pairs = zip(images, record.images, shown, maps, notes, strict=True)
    return [
        mapped_figure(number, image, grid.image, one, scores, said, edge)
        for number, (image, grid, one, scores, said) in enumerate(pairs, start=1)
    ]


def _notes(shown: ImageMap) -> list[str]:
    notes = [f"{shown.share:.1%} of all relevancy"]
    if shown.zones is not None:
        notes.append(in_words(shown.zones))
    return notes


def _areas(target: TargetRecord) -> str | None:
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


def title(span: Span) -> str:
    """What was explained, in words."""
    if span.kind == "answer":
        return "the whole answer"
    what = f"“{span.text}”"
    if span.occurrences > 1:
        what += f", occurrence {span.occurrence} of {span.occurrences}"
    if span.kind == "prompt":
        what += ", in the prompt"
    elif span.char_start is None:
        what += ", outside of the answer"
    return what


def _shares(shares: Shares) -> list[Share]:
    return [Share(name, part, f"{part:.1%}") for name, part in shares.model_dump().items()]
