"""Pictures of relevancy: the map alone, and the map over its image. Same inputs, same pixels.

Everything that is not the image or the map (legend, sides, notes) stands in the margin, so that no
pixel of the image is covered by a letter; only the small cross on the peak stands on the image.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from medgemma_tasks.colours import colourise, is_flat, scale_to_unit, table, uncoloured
from medgemma_tasks.errors import EmptyImage, InputError, InvalidRequest
from medgemma_tasks.geometry import Box, FloatMap, cell_centre, check_scores, spread

Side: TypeAlias = Literal["patient-right", "patient-left", "unknown"]
"""Which side of the patient the left edge of an image shows."""

LARGEST_EDGE = 2048
"""Pixels: a longer image is drawn reduced to this."""
SMALLEST_EDGE = 512
"""Pixels: an image whose longer edge is below is enlarged by a whole number to at least this."""

NOTICE = "Research use, not for diagnosis"

INK = (232, 233, 236)
DIM = (158, 161, 168)
PAPER = (17, 18, 20)
_BAR_BACKDROPS = (40, 200)
"""Grey levels under the two halves of an overlay's colour bar: colours shine through it too."""


def shown_size(width: int, height: int) -> tuple[int, int]:
    """Width and height at which an image is drawn (see `LARGEST_EDGE` and `SMALLEST_EDGE`)."""
    longest = max(width, height)
    if min(width, height) < 1:
        raise EmptyImage(f"An image of {width} x {height} pixels has no pixels.")
    if longest > LARGEST_EDGE:
        shrink = LARGEST_EDGE / longest
        return max(1, round(width * shrink)), max(1, round(height * shrink))
    grow = -(-SMALLEST_EDGE // longest)
    return width * grow, height * grow


def shown_image(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The image as RGB of this size: enlarged without smoothing, reduced without aliasing."""
    if image.mode not in {"1", "L", "LA", "P", "RGB", "RGBA"}:
        raise InputError(f"An image of mode {image.mode} has no colours yet: window it to 8 bits.")
    if size[0] >= image.width and size[1] >= image.height:
        return image.convert("RGB").resize(size, Image.Resampling.NEAREST)
    return image.convert("RGB").resize(size, Image.Resampling.HAMMING)


def number_texts(low: float, high: float) -> tuple[str, str]:
    """Both ends of a scale, with three digits or as many more as it takes to tell them apart."""
    for digits in range(3, 10):
        texts = f"{low:.{digits}g}", f"{high:.{digits}g}"
        if texts[0] != texts[1]:
            break
    return texts


def percent(part: float) -> str:
    """A part of 1 in per cent, as precise as it takes to tell a small one from none."""
    if 0 < part < 0.001:
        return "under 0.1%"
    return f"{part:.1%}"


def uncoloured_text(scores: FloatMap, low: float | FloatMap) -> str:
    """What a legend says of `colours.uncoloured`."""
    return f"{percent(uncoloured(scores, low))} uncoloured"


def draw_heatmap(
    scores: FloatMap, *, size: tuple[int, int], square: Box, low: float, high: float
) -> Image.Image:
    """The map alone over the extent of its image, with a legend below it. RGB.

    scores: float32 (rows, columns). size: width and height of the original image in pixels.
    square: where the grid lies on it (`geometry.grid_square`). low, high: the display range, the
    same for all images of a job. Drawn at `shown_size`. A flat range gives a plain grey field.

    Raises `NonFiniteRelevancy`, `InvalidRequest` for a range that runs backwards.
    """
    shown = shown_size(*size)
    if is_flat(low, high):
        check_scores(scores)
        picture = Image.new("RGB", shown, (96, 96, 96))
        return _frame(picture, _Legend(low, high, clip=_clipping(scores, low, high)))
    values = spread(scores, shown, scaled(square, size, shown))
    picture = Image.fromarray(colourise(scale_to_unit(values, low, high)))
    bar = np.repeat(table()[None], 2, axis=0)
    return _frame(picture, _Legend(low, high, clip=_clipping(scores, low, high), bar=bar))


def draw_overlay(
    image: Image.Image,
    scores: FloatMap,
    *,
    square: Box,
    low: float,
    high: float,
    left_of_image: Side = "unknown",
    opacity: float = 0.5,
) -> Image.Image:
    """The map over its image, with sides, legend and notes in the margin. RGB.

    The map's opacity rises with relevancy (`coverage`), from 0 at `low` to `opacity` (0..1) at
    `high`: where relevancy is least the anatomy stays as it is. A thin cross stands on the centre
    of the cell with the largest score of this image, if that lies in the image. Parameters and
    errors as in `draw_heatmap`; images have 8 bits a channel. Images below 512 pixels are enlarged
    by a whole number, without smoothing; images above 2048 pixels are reduced to that edge (100
    megapixels take a few seconds).

    A flat range draws no colour and no cross, and says "flat map".
    """
    if not 0.0 <= opacity <= 1.0:
        raise InvalidRequest(f"An opacity is a number from 0 to 1, not {opacity}.")
    scores = check_scores(scores)
    shown = shown_size(*image.size)
    base = shown_image(image, shown)
    notes = [] if left_of_image != "unknown" else ["side unknown"]
    legend = _Legend(
        low, high, clip=_clipping(scores, low, high), sides=side_letters(left_of_image)
    )
    if is_flat(low, high):
        return _frame(base, legend.with_notes(notes))
    placed = scaled(square, image.size, shown)
    picture = overlaid(base, scores, square=placed, low=low, high=high, opacity=opacity)
    if not is_flat(float(scores.min()), float(scores.max())):
        x, y = cell_centre(peak_cell(scores), (scores.shape[0], scores.shape[1]), placed)
        if 0 <= x < shown[0] and 0 <= y < shown[1]:
            cross(picture, x, y)
            notes.append("+ peak")
        else:
            notes.append("peak outside of the image")
    said = uncoloured_text(scores, low)
    return _frame(picture, replace(legend.with_notes(notes, overlay_bar(opacity)), uncoloured=said))


def overlaid(
    base: Image.Image, scores: FloatMap, *, square: Box, low: float, high: float, opacity: float
) -> Image.Image:
    """The map over an RGB image, of the same size, and nothing beside it; a flat range leaves the
    image as it is. square is in pixels of ``base``."""
    unit = scale_to_unit(spread(scores, base.size, square), low, high)
    return Image.fromarray(_blend(np.asarray(base), unit, opacity))


def overlay_bar(opacity: float) -> NDArray[np.uint8]:
    """The colours of an overlay from low to high, over dark and over light: uint8 (2, 256, 3)."""
    ramp = np.linspace(0.0, 1.0, 256, dtype=np.float32)[None]
    bar = [_blend(np.full((1, 256, 3), grey, np.uint8), ramp, opacity) for grey in _BAR_BACKDROPS]
    return np.concatenate(bar)


def peak_cell(scores: FloatMap) -> tuple[int, int]:
    """Row and column of the largest score; the first in reading order if there are several."""
    row, column = np.unravel_index(int(np.argmax(scores)), scores.shape)
    return int(row), int(column)


def coverage(unit: FloatMap) -> FloatMap:
    """How much of the colour shows at a relevancy of 0..1: 0 to 1, rising, fastest at the low end.

    A straight line would leave a fifth of the largest relevancy all but invisible.
    """
    return np.asarray(unit * (2 - unit))


QUICK = 1
"""How hard zlib tries: packing was most of a picture's time, and this packs little worse."""


def to_png(image: Image.Image) -> bytes:
    """PNG bytes without metadata: nothing of where the image came from travels along."""
    bare = image.copy()
    bare.info = {}
    buffer = io.BytesIO()
    bare.save(buffer, "PNG", compress_level=QUICK)
    return buffer.getvalue()


@dataclass(frozen=True)
class _Legend:
    """What the margin says. bar: uint8 (rows, 256, 3), or None for a flat map."""

    low: float
    high: float
    clip: tuple[bool, bool] = (False, False)
    sides: tuple[str, str] = ("", "")
    notes: tuple[str, ...] = ()
    bar: NDArray[np.uint8] | None = None
    uncoloured: str = ""

    def with_notes(self, notes: list[str], bar: NDArray[np.uint8] | None = None) -> _Legend:
        return replace(self, notes=tuple(notes), bar=bar)


def side_letters(left_of_image: Side) -> tuple[str, str]:
    """What stands at the left and right of an image; empty where unknown."""
    letters = {"patient-right": ("R", "L"), "patient-left": ("L", "R"), "unknown": ("", "")}
    return letters[left_of_image]


def _clipping(scores: FloatMap, low: float, high: float) -> tuple[bool, bool]:
    """Whether scores lie below and above the display range: the legend must not hide it."""
    return bool(np.min(scores) < np.float32(low)), bool(np.max(scores) > np.float32(high))


def scaled(square: Box, size: tuple[int, int], shown: tuple[int, int]) -> Box:
    """A square on an image of ``size``, on the same image drawn at ``shown``."""
    x, y = shown[0] / size[0], shown[1] / size[1]
    return (square[0] * x, square[1] * y, square[2] * x, square[3] * y)


def _blend(base: NDArray[np.uint8], unit: FloatMap, opacity: float) -> NDArray[np.uint8]:
    """Colour over base, uint8 (height, width, 3); row by row, to hold no float copy of it all."""
    out = np.empty_like(base)
    for start in range(0, len(base), 256):
        part = slice(start, start + 256)
        alpha = np.float32(opacity) * coverage(unit[part])[..., None]
        mixed = base[part] * (1 - alpha) + colourise(unit[part]) * alpha
        out[part] = np.rint(mixed).astype(np.uint8)
    return out


def cross(picture: Image.Image, x: float, y: float) -> None:
    """A thin cross with an open middle, dark under light so that it shows on any ground."""
    draw = ImageDraw.Draw(picture)
    arm = max(7, round(max(picture.size) / 72))
    gap, half = arm // 3, arm // 16
    cx, cy = int(x), int(y)
    for colour, rim in (((0, 0, 0), half + 1), ((255, 255, 255), half)):
        grow = rim - half
        for sign in (-1, 1):
            near, far = sorted((sign * (gap - grow), sign * (arm + grow)))
            draw.rectangle((cx + near, cy - rim, cx + far, cy + rim), fill=colour)
            draw.rectangle((cx - rim, cy + near, cx + rim, cy + far), fill=colour)


def _frame(picture: Image.Image, legend: _Legend) -> Image.Image:
    """The picture in its margin: sides left and right of it, legend and notes below."""
    text = max(13, round(max(picture.size) / 48))
    font, large = ImageFont.load_default(text), ImageFont.load_default(round(text * 1.5))
    side = round(text * 2.4) if any(legend.sides) else text
    width = max(picture.width, text * 24) + 2 * side
    left = (width - picture.width) // 2
    line = round(text * 1.7)
    height = text + picture.height + text + 4 * line + text // 2
    canvas = Image.new("RGB", (width, height), PAPER)
    canvas.paste(picture, (left, text))
    draw = ImageDraw.Draw(canvas)
    for letter, x in zip(
        legend.sides, (left - side / 2, left + picture.width + side / 2), strict=True
    ):
        draw.text((x, text * 2), letter, fill=INK, font=large, anchor="mm")

    start, end = side, width - side
    y = 2 * text + picture.height + line // 2
    draw.text((start, y), "relevancy", fill=INK, font=font, anchor="lm")
    if legend.notes:
        draw.text((end, y), "   ".join(legend.notes), fill=DIM, font=font, anchor="rm")
    y += line
    if legend.bar is None:
        value = number_texts(legend.low, legend.high)[0]
        label = f"flat map: every value is {value}"
        draw.text((start, y), label, fill=INK, font=font, anchor="lm")
    else:
        bar = Image.fromarray(legend.bar).resize(
            (end - start, 2 * (text // 2)), Image.Resampling.NEAREST
        )
        canvas.paste(bar, (start, y - text // 2))
    y += line
    if legend.bar is not None:
        low, high = number_texts(legend.low, legend.high)
        low, high = (
            ("<= " if legend.clip[0] else "") + low,
            (">= " if legend.clip[1] else "") + high,
        )
        draw.text((start, y), low, fill=INK, font=font, anchor="lm")
        draw.text((end, y), high, fill=INK, font=font, anchor="rm")
    draw.text((start, y + line), NOTICE, fill=DIM, font=font, anchor="lm")
    draw.text((end, y + line), legend.uncoloured, fill=DIM, font=font, anchor="rm")
    return canvas
