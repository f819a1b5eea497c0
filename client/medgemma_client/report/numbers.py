"""The numbers of a page: what its script draws from, and reads out under the pointer.

Relevancy is carried as float32, as the record has it, as long as that takes a megabyte; beyond, as
float16 with a scale, which keeps three digits of each value (11 bits, and 29 octaves below the
largest one).
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from medgemma_client.report.figures import drawn_size
from medgemma_client.report.palettes import palettes
from medgemma_client.report.targets import areas_text
from medgemma_client.report.text import visible
from medgemma_client.report.where import zone_words
from medgemma_client.report.words import title
from medgemma_tasks.boxes import AnswerBoxes
from medgemma_tasks.models import ExplanationRecord, ImageGrid, TargetRecord

Maps: TypeAlias = NDArray[np.float32]

EXACT = 250_000
"""Values that a page carries as float32; where there are more, each is rounded."""

_LARGEST = 15
"""The largest value of a rounded array lies below 2 to this, in float16's own range."""


def pack(values: NDArray[np.floating[Any]], *, rounded: bool) -> str:
    """base64 of little-endian numbers: float32, or a float32 scale and float16 multiples of it."""
    exact = np.asarray(values, "<f4")
    if not rounded:
        return base64.b64encode(exact.tobytes()).decode("ascii")
    largest = float(np.abs(exact).max(initial=0.0))
    scale = math.ldexp(1.0, max(math.frexp(largest)[1] - _LARGEST, -126)) if largest else 1.0
    parts = (exact.astype(np.float64) / scale).astype("<f2")
    return base64.b64encode(np.float32(scale).astype("<f4").tobytes() + parts.tobytes()).decode(
        "ascii"
    )


def is_rounded(
    record: ExplanationRecord, maps: Sequence[Maps], fine: Sequence[Maps | None]
) -> bool:
    """Whether a page of these maps carries rounded numbers."""
    count = sum(array.size for array in (*maps, *fine) if array is not None)
    return count + sum(len(target.scores) for target in record.targets) > EXACT


def page_data(
    record: ExplanationRecord,
    maps: Sequence[Maps],
    fine: Sequence[Maps | None],
    boxes: AnswerBoxes,
) -> Markup:
    """All of it as JSON that may stand in a ``script`` element: no sign in it is one of markup."""
    rounded = is_rounded(record, maps, fine)
    first = next((array for array in fine if array is not None), None)
    data = {
        "rounded": rounded,
        "coarse": list(maps[0].shape[1:]) if maps else [1, 1],
        "fine": None if first is None else list(first.shape[1:]),
        "images": [_image(grid, zone_words(record, k)) for k, grid in enumerate(record.images)],
        "targets": [
            _target(target, scores, finer, rounded)
            for target, scores, finer in zip(record.targets, maps, fine, strict=True)
        ],
        "tokens": [[token.position, token.role == "special"] for token in record.tokens],
        "boxes": [box.box_2d for box in boxes.found],
        "palettes": [
            {"name": one.name, "colours": one.packed, "falling": one.falling} for one in palettes()
        ],
    }
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)  # noqa: S704  no sign of markup is left


def _image(grid: ImageGrid, zones: tuple[list[str], list[str]] | None) -> dict[str, Any]:
    size = (grid.image.width, grid.image.height)
    return {
        "size": size,
        "square": grid.square,
        "drawn": drawn_size(*size),
        "zones": zones,
    }


def _target(target: TargetRecord, scores: Maps, fine: Maps | None, rounded: bool) -> dict[str, Any]:
    shares = target.shares
    return {
        "label": visible(title(target.span)),
        "low": target.low,
        "high": target.high,
        "maps": pack(scores, rounded=rounded),
        "fine": None
        if target.fine is None or fine is None
        else {
            "low": target.fine.low,
            "high": target.fine.high,
            "maps": pack(fine, rounded=rounded),
        },
        "scores": pack(np.array(target.scores, np.float32), rounded=rounded),
        "positions": list(target.span.token_positions),
        "shares": [shares.images, shares.prompt, shares.answer, shares.special],
        "own": target.own_relevancy,
        "images": [one.share for one in target.maps],
        "zones": [
            None
            if one.zones is None
            else [*(zone.share for zone in one.zones.zones), one.zones.outside]
            for one in target.maps
        ],
        "areas": areas_text(target),
    }
