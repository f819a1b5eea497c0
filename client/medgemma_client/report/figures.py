"""Images and their maps as layers that a page can carry: data URIs, places in per cent."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from medgemma_tasks.colours import is_flat, scale_to_unit, steps, table
from medgemma_tasks.errors import InvalidRequest
from medgemma_tasks.geometry import Box, cell_centre, spread
from medgemma_tasks.models import ImageRef
from medgemma_tasks.pictures import coverage, number_texts, peak_cell, shown_image

_LAYER_EDGE = 512
"""Pixels: a smooth map needs no more; the browser enlarges it."""
_LOSSLESS_EDGE = 512
"""Pixels: smaller images are embedded as PNG, every pixel as it is; larger ones as JPEG."""
_EDGES = ((4, 1024), (16, 640), (40, 448))
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
    notes: tuple[str, ...]
    frame: str | None
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
        source=_image_uri(shown_image(image, size)),
        layer=None,
        sides=letters,
        peak=None,
        pixelated=max(image.size) < _LOSSLESS_EDGE,
        notes=() if letters else ("side unknown",),
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


def mapped_figure(
    number: int,
    image: Image.Image,
    ref: ImageRef,
    shown: Shown,
    scores: NDArray[np.float32],
    notes: Sequence[str],
    edge: int,
) -> Figure:
    """An image with a map over it. Raises `InvalidRequest` where map and record do not agree."""
    cells = (shown.rows, shown.columns)
    scores = np.asarray(scores, np.float32)
    if scores.shape != cells or float(scores[shown.peak_cell]) != float(scores.max()):
        raise InvalidRequest(f"The map of image {number} is not the one that the record describes.")
    plain = plain_figure(number, image, ref, edge)
    said = list(notes)
    peak = None
    if is_flat(shown.low, shown.high):
        layer = None
        said.append("flat map: nothing to draw")
    else:
        layer = _layer(image.size, shown, scores)
        if not is_flat(float(scores.min()), float(scores.max())):
            row, column = peak_cell(scores)
            x, y = cell_centre((row, column), cells, shown.square)
            inside = 0 <= x < image.width and 0 <= y < image.height
            peak = (100 * x / image.width, 100 * y / image.height) if inside else None
            place = f"row {row + 1}, column {column + 1} of {cells[0]} × {cells[1]}"
            said.append(f"peak in {place}" + ("" if inside else ", outside of the image"))
    return Figure(**vars(plain) | {"layer": layer, "peak": peak, "notes": (*said, *plain.notes)})


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


def _layer(size: tuple[int, int], shown: Shown, scores: NDArray[np.float32]) -> Markup:
    shrink = min(1.0, _LAYER_EDGE / max(size))
    # Small images get a smooth map too: at least 256 pixels on the longer edge.
    grow = max(1, -(-256 // max(size)))
    width, height = (max(1, round(edge * shrink)) * grow for edge in size)
    x, y = width / size[0], height / size[1]
    left, top, right, bottom = shown.square
    values = spread(scores, (width, height), (left * x, top * y, right * x, bottom * y))
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


def _image_uri(image: Image.Image) -> Markup:
    bare = image.copy()
    bare.info = {}
    buffer = io.BytesIO()
    if max(bare.size) <= _LOSSLESS_EDGE:
        bare.save(buffer, "PNG", optimize=True)
        return _uri("image/png", buffer.getvalue())
    bare.save(buffer, "JPEG", quality=88, subsampling=0)
    return _uri("image/jpeg", buffer.getvalue())


def _uri(content_type: str, content: bytes) -> Markup:
    encoded = base64.b64encode(content).decode("ascii")
    return Markup(f"data:{content_type};base64,{encoded}")  # noqa: S704  base64 needs no escaping
