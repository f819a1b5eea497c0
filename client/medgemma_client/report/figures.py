"""Images and their maps as layers that a page can carry: data URIs, places in per cent."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from medgemma_tasks.colours import is_flat, scale_to_unit, steps, table, uncoloured
from medgemma_tasks.errors import InvalidRequest
from medgemma_tasks.geometry import Box, cell_centre, spread
from medgemma_tasks.models import ImageRef
from medgemma_tasks.pictures import (
    coverage,
    number_texts,
    peak_cell,
    percent,
    scaled,
    shown_image,
)

_LAYER_EDGE = 512
"""Pixels: a smooth map needs no more; the browser enlarges it."""
_LOSSLESS_EDGE = 512
"""Pixels: an image up to this is embedded as PNG, every pixel as it is, unless it had to be
reduced; others are embedded as JPEG."""
_EDGES = ((1, 1280), (4, 1024), (16, 640), (120, 448))
"""Up to so many images, so long an edge (pixels): a page stays within a few megabytes."""
_SMALLEST_EDGE = 320


@dataclass(frozen=True)
class Outline:
    """A box on a figure, in per cent of its width and height; colour and dashes as SVG says them.
    It may reach beyond the figure, whose edge cuts it."""

    left: float
    top: float
    width: float
    height: float
    colour: str
    dashes: str


@dataclass(frozen=True)
class Figure:
    """One image of the page. Places are per cent of its width and height."""

    number: int
    width: int
    height: int
    source: Markup
    layer: Markup | None
    sides: tuple[str, str] | None
    peak: tuple[float, float] | None
    pixelated: bool
    frame: str | None
    share: str | None = None
    """Of all relevancy, in per cent."""
    uncoloured: str | None = None
    """What part of it has no colour, in per cent."""
    place: str | None = None
    """Where its peak lies, in words."""
    matters: bool = True
    """Whether it is shown where only the most relevant ones are: on paper, of a volume."""
    boxes: tuple[Outline, ...] = ()


@dataclass(frozen=True)
class Legend:
    """The colour bar and the ends of its scale; `bar` is None for a flat map."""

    bar: Markup | None
    low: str
    high: str


def embedded_edge(images: int) -> int:
    """The longest edge, in pixels, at which each of so many images is embedded."""
    return next((edge for most, edge in _EDGES if images <= most), _SMALLEST_EDGE)


def plain_figure(number: int, image: Image.Image, ref: ImageRef, edge: int) -> Figure:
    """An image without a map. number counts from 1. Raises `InvalidRequest` for another image."""
    if image.size != (ref.width, ref.height):
        raise InvalidRequest(
            f"Image {number} has {image.width} x {image.height} pixels, the record's "
            f"{ref.width} x {ref.height}: it is another one."
        )
    shrink = min(1.0, edge / max(image.size))
    size = (max(1, round(image.width * shrink)), max(1, round(image.height * shrink)))
    side = ref.attributes.left_of_image
    letters = {"patient-right": ("R", "L"), "patient-left": ("L", "R")}.get(side)
    attributes = ref.attributes
    frame = None
    if attributes.frame is not None:
        total = f" of {attributes.frames}" if attributes.frames else ""
        frame = f"frame {attributes.frame + 1}{total}"
    return Figure(
        number=number,
        width=image.width,
        height=image.height,
        source=_image_uri(image, size),
        layer=None,
        sides=letters,
        peak=None,
        pixelated=max(image.size) < _LOSSLESS_EDGE,
        frame=frame,
    )


@dataclass(frozen=True)
class Shown:
    """A map as the record describes it: its cells, its display range, and where its peak is."""

    rows: int
    columns: int
    square: Box
    low: float
    high: float
    peak_cell: tuple[int, int]


def check_map(number: int, shown: Shown, scores: NDArray[np.float32]) -> None:
    """Raises `InvalidRequest` where a map is not the one that the record describes."""
    cells = (shown.rows, shown.columns)
    if scores.shape != cells or float(scores[shown.peak_cell]) != float(scores.max()):
        raise InvalidRequest(f"The map of image {number} is not the one that the record describes.")


def with_map(plain: Figure, shown: Shown, scores: NDArray[np.float32], share: float) -> Figure:
    """The figure with a map over it. share: of all relevancy, 0..1."""
    told = replace(plain, share=percent(share))
    if is_flat(shown.low, shown.high):
        return told
    cells, size = (shown.rows, shown.columns), (plain.width, plain.height)
    layer = _layer(size, shown, scores)
    told = replace(told, uncoloured=percent(uncoloured(scores, shown.low)))
    if is_flat(float(scores.min()), float(scores.max())):
        return replace(told, layer=layer)
    row, column = peak_cell(scores)
    x, y = cell_centre((row, column), cells, shown.square)
    inside = 0 <= x < size[0] and 0 <= y < size[1]
    place = f"peak in row {row + 1}, column {column + 1} of {cells[0]} × {cells[1]}"
    return replace(
        told,
        layer=layer,
        peak=(100 * x / size[0], 100 * y / size[1]) if inside else None,
        place=place + ("" if inside else ", outside of the image"),
    )


def legend(low: float, high: float, maps: Sequence[NDArray[np.float32]]) -> Legend:
    """The one scale of all images of a target."""
    if is_flat(low, high):
        value = number_texts(low, high)[0]
        return Legend(None, value, value)
    least, most = number_texts(low, high)
    if min(float(scores.min()) for scores in maps) < np.float32(low):
        least = f"≤ {least}"
    if max(float(scores.max()) for scores in maps) > np.float32(high):
        most = f"≥ {most}"
    return Legend(_palette_uri(np.arange(256, dtype=np.uint8)[None]), least, most)


def drawn_size(width: int, height: int) -> tuple[int, int]:
    """Width and height, in pixels, at which a map over an image of this size is drawn."""
    shrink = min(1.0, _LAYER_EDGE / max(width, height))
    # Small images get a smooth map too: at least 256 pixels on the longer edge.
    grow = max(1, -(-256 // max(width, height)))
    return max(1, round(width * shrink)) * grow, max(1, round(height * shrink)) * grow


def _layer(size: tuple[int, int], shown: Shown, scores: NDArray[np.float32]) -> Markup:
    drawn = drawn_size(*size)
    values = spread(scores, drawn, scaled(shown.square, size, drawn))
    return _palette_uri(steps(scale_to_unit(values, shown.low, shown.high)))


def _palette_uri(entries: NDArray[np.uint8]) -> Markup:
    """Entries of the colour map as a PNG whose palette holds colour and opacity: small, exact."""
    image = Image.fromarray(entries)
    image.putpalette(table().tobytes())
    ramp = np.linspace(0.0, 1.0, 256, dtype=np.float32)
    alpha = np.rint(coverage(ramp) * 255).astype(np.uint8).tobytes()
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=alpha, optimize=True)
    return _uri("image/png", buffer.getvalue())


def _image_uri(image: Image.Image, size: tuple[int, int]) -> Markup:
    grey = image.mode in ("1", "L")
    shown = shown_image(image, size)
    bare = shown.convert("L") if grey else shown.copy()
    bare.info = {}
    buffer = io.BytesIO()
    if size == image.size and max(size) <= _LOSSLESS_EDGE:
        bare.save(buffer, "PNG", optimize=True)
        return _uri("image/png", buffer.getvalue())
    if grey:
        bare.save(buffer, "JPEG", quality=88)
    else:
        bare.save(buffer, "JPEG", quality=88, subsampling=0)
    return _uri("image/jpeg", buffer.getvalue())


def _uri(content_type: str, content: bytes) -> Markup:
    encoded = base64.b64encode(content).decode("ascii")
    return Markup(f"data:{content_type};base64,{encoded}")  # noqa: S704  base64 needs no escaping
