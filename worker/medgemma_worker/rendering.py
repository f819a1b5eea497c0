"""Results made ready for the store: what the record says of them, their arrays and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medgemma_tasks.arrays import pack
from medgemma_tasks.backdrop import backdrop
from medgemma_tasks.explanation import ExplanationResult, display_range
from medgemma_tasks.geometry import grid_square
from medgemma_tasks.models import (
    FineGrid,
    FineRange,
    ImageGrid,
    ImageMap,
    ImageRef,
    TargetRecord,
    Token,
)
from medgemma_tasks.pictures import draw_heatmap, draw_overlay, peak_cell, to_png
from medgemma_tasks.zones import zone_shares
from medgemma_worker.engine import File

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Described:
    """What the record says: one entry for each target, image and text token."""

    targets: tuple[TargetRecord, ...]
    images: tuple[ImageGrid, ...]
    tokens: tuple[Token, ...]


def describe(results: Sequence[ExplanationResult], refs: Sequence[ImageRef]) -> Described:
    """The record's part of results of one answer, one for each target, about the images ``refs``.

    A target sees the tokens before it, so the tokens of the latest target are those of all.
    """
    latest = max(results, key=lambda result: len(result.token_labels))
    tokens = zip(latest.text_positions, latest.token_labels, latest.text_roles, strict=True)
    return Described(
        targets=tuple(_target(result, refs) for result in results),
        images=tuple(
            ImageGrid(
                image=ref,
                rows=results[0].image_scores.shape[1],
                columns=results[0].image_scores.shape[2],
                square=grid_square(ref.width, ref.height, results[0].pad_to_square),
                heatmap=f"heatmap-{k}.png",
                overlay=f"overlay-{k}.png",
                fine=_fine_grid(results[0], k),
            )
            for k, ref in enumerate(refs)
        ),
        tokens=tuple(
            Token.model_validate({"position": int(position), "text": text, "role": role})
            for position, text, role in tokens
        ),
    )


def _fine_grid(result: ExplanationResult, k: int) -> FineGrid | None:
    fine = result.patch_scores
    if fine is None:
        return None
    return FineGrid(
        rows=fine.shape[1],
        columns=fine.shape[2],
        heatmap=f"fine-heatmap-{k}.png",
        overlay=f"fine-overlay-{k}.png",
    )


def _fine_range(result: ExplanationResult) -> FineRange | None:
    if result.patch_scores is None:
        return None
    low, high = display_range(result.patch_scores)
    return FineRange(low=low, high=high, peaks=tuple(map(peak_cell, result.patch_scores)))


def _target(result: ExplanationResult, refs: Sequence[ImageRef]) -> TargetRecord:
    low, high = display_range(result.image_scores)
    total = float(result.image_scores.sum())
    return TargetRecord(
        span=result.spans[0],
        scores=tuple(float(score) for score in result.text_scores),
        shares=result.shares,
        own_relevancy=result.own_relevancy,
        low=low,
        high=high,
        areas=result.areas,
        fine=_fine_range(result),
        maps=tuple(
            ImageMap(
                share=result.shares.images * float(scores.sum()) / total if total else 0.0,
                peak_cell=result.peak_cell(k),
                zones=zone_shares(
                    scores,
                    grid_square(ref.width, ref.height, result.pad_to_square),
                    (ref.width, ref.height),
                    left_of_image=ref.attributes.left_of_image,
                    top_of_image=ref.attributes.top_of_image,
                ),
            )
            for k, (ref, scores) in enumerate(zip(refs, result.image_scores, strict=True))
        ),
    )


def render(
    results: Sequence[ExplanationResult], described: Described, images: Sequence[Image]
) -> dict[str, File]:
    """The arrays of all targets, and a heatmap and an overlay of each image for the first one.

    The pictures of the others are drawn by whoever wants to see them: a job that explains every
    token of an answer would store hundreds that nobody opens.
    """
    files = {"relevancy.npz": File(pack(results), "application/octet-stream")}
    first, target = results[0], described.targets[0]
    for k, (grid, image) in enumerate(zip(described.images, images, strict=True)):
        draw = partial(_draw, files, image, grid)
        draw((grid.heatmap, grid.overlay), first.image_scores[k], (target.low, target.high))
        if grid.fine and target.fine and first.patch_scores is not None:
            names = (grid.fine.heatmap, grid.fine.overlay)
            draw(names, first.patch_scores[k], (target.fine.low, target.fine.high))
    return files


def _draw(
    files: dict[str, File],
    image: Image,
    grid: ImageGrid,
    names: tuple[str, str],
    scores: NDArray[np.float32],
    ends: tuple[float, float],
) -> None:
    """The two pictures of one map, put among the files."""
    low, high = ends
    heatmap = draw_heatmap(scores, size=image.size, square=grid.square, low=low, high=high)
    overlay = draw_overlay(
        backdrop(image, grid.image.attributes),
        scores,
        square=grid.square,
        low=low,
        high=high,
        left_of_image=grid.image.attributes.left_of_image,
    )
    for name, picture in zip(names, (heatmap, overlay), strict=True):
        files[name] = File(to_png(picture), "image/png")
