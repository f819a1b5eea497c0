"""The targets of a record as parts of its page: figures, legend, shares and words of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medgemma_client.report.figures import Figure, Legend, embedded_edge, legend, mapped_figure
from medgemma_client.report.text import Tokens, shaded_tokens
from medgemma_tasks.errors import InvalidRequest
from medgemma_tasks.models import ExplanationRecord, Shares, Span

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


@dataclass(frozen=True)
class TargetView:
    """One target as the page shows it."""

    title: str
    figures: list[Figure]
    legend: Legend | None
    shares: list[Share]
    tokens: Tokens | None
    own: str


def target_views(
    record: ExplanationRecord,
    images: Sequence[Image.Image],
    maps: Sequence[NDArray[np.float32]],
) -> list[TargetView]:
    """The first `MOST` targets. maps: for each target float32 (n, rows, columns), unscaled.

    Raises `InvalidRequest` where images, maps and record do not belong together.
    """
    if len(maps) != len(record.targets):
        raise InvalidRequest(
            f"The record has {len(record.targets)} targets; maps of {len(maps)} were given."
        )
    views = []
    for index, (target, scores) in enumerate(zip(record.targets[:MOST], maps, strict=False)):
        if not len(scores) == len(images) == len(record.images) == len(target.maps):
            raise InvalidRequest(
                f"The record has {len(record.images)} images; {len(images)} images and "
                f"{len(scores)} maps were given."
            )
        edge = embedded_edge(len(images))
        if index:
            edge = min(edge, _EDGE_OF_OTHERS)
        figures = [
            mapped_figure(number, image, grid, target, values, edge)
            for number, (image, grid, values) in enumerate(
                zip(images, record.images, scores, strict=True), start=1
            )
        ]
        views.append(
            TargetView(
                title=title(target.span),
                figures=figures,
                legend=legend(target.low, target.high, list(scores)) if figures else None,
                shares=_shares(target.shares),
                tokens=shaded_tokens(record.tokens, target),
                own=f"{target.own_relevancy:.4g}",
            )
        )
    return views


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
