"""One colour map for relevancy: sequential, perceptually uniform, readable by the colour-blind.

It runs from near black through violet, red and orange to pale yellow. Lightness rises in equal
steps, so that order survives every kind of colour blindness and a grey print; hue runs from blue to
yellow, the axis that the common red-green deficiencies keep.

The control points lie in Oklab (Ottosson, "A perceptual color space for image processing", 2020),
from which the matrices below are taken. The 256 entries stand at equal Oklab distance along the
curve, which makes equal steps of relevancy look equally far apart.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from medgemma_tasks.errors import InternalError, InvalidRequest, NonFiniteRelevancy

Colours: TypeAlias = NDArray[np.uint8]

# Lightness, chroma, hue in degrees.
_POINTS = (
    (0.16, 0.030, 285.0),
    (0.30, 0.115, 300.0),
    (0.44, 0.165, 338.0),
    (0.58, 0.170, 378.0),
    (0.72, 0.155, 412.0),
    (0.85, 0.145, 443.0),
    (0.96, 0.095, 466.0),
)
_LMS_FROM_OKLAB = (
    (1.0, 0.3963377774, 0.2158037573),
    (1.0, -0.1055613458, -0.0638541728),
    (1.0, -0.0894841775, -1.2914855480),
)
_RGB_FROM_LMS = (
    (4.0767416621, -3.3077115913, 0.2309699292),
    (-1.2684380046, 2.6097574011, -0.3413193965),
    (-0.0041960863, -0.7034186147, 1.7076147010),
)

_FLAT = 2.0**-20
"""A range below this part of its largest value is rounding of float32, not relevancy."""


def oklab_to_srgb(lab: NDArray[np.float64]) -> NDArray[np.float64]:
    """Oklab (..., 3) to sRGB (..., 3), 0..1 inside the gamut, not clipped."""
    lms = (lab @ np.array(_LMS_FROM_OKLAB).T) ** 3
    linear = lms @ np.array(_RGB_FROM_LMS).T
    curve = 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055
    return np.asarray(np.where(linear <= 0.0031308, 12.92 * linear, curve))


Points: TypeAlias = tuple[tuple[float, float, float], ...]
"""Control points of a colour map in Oklab: lightness, chroma and hue in degrees of each."""


def curve(steps: int, points: Points = _POINTS) -> NDArray[np.float64]:
    """A colour map in Oklab: float64 (steps, 3), at equal distances from low to high."""
    lightness, chroma, hue = np.array(points).T
    knots = np.linspace(0.0, 1.0, len(lightness))
    # A quartic near the points, not a spline through them: no kink in hue is ever seen as an edge.
    fine = np.linspace(0.0, 1.0, 4097)
    light = np.interp(fine, knots, lightness)
    radius = np.polynomial.Polynomial.fit(knots, chroma, 4)(fine)
    angle = np.deg2rad(np.polynomial.Polynomial.fit(knots, hue, 4)(fine))
    lab = np.stack([light, radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    walked = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(lab, axis=0), axis=1))])
    at = np.linspace(0.0, walked[-1], steps)
    return np.stack([np.interp(at, walked, axis) for axis in lab.T], axis=1)


@lru_cache(maxsize=1)
def table() -> Colours:
    """The 256 colours, uint8 (256, 3), low to high. Read-only."""
    return table_of(_POINTS)


def table_of(points: Points) -> Colours:
    """The same of another colour map."""
    colours = np.rint(np.clip(oklab_to_srgb(curve(256, points)), 0.0, 1.0) * 255.0)
    whole = colours.astype(np.uint8)
    whole.setflags(write=False)
    return whole


def steps(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Values 0..1 of any shape to entries of `table`. Values outside are clipped to the ends.

    Raises `NonFiniteRelevancy` for NaN or infinity.
    """
    if not np.isfinite(values).all():
        raise NonFiniteRelevancy("NaN or infinity has no colour.")
    return np.asarray(np.rint(np.clip(values, 0.0, 1.0) * 255.0), np.uint8)


def colourise(values: NDArray[np.floating]) -> Colours:
    """Values 0..1 (height, width) to colours, uint8 (height, width, 3)."""
    if values.ndim != 2:
        raise InternalError(f"A map to colour has 2 axes, not the shape {values.shape}.")
    return np.asarray(table()[steps(values)])


def is_flat(low: float, high: float) -> bool:
    """Whether a display range holds nothing to show: no wider than float32's own rounding."""
    if not (np.isfinite(low) and np.isfinite(high)):
        raise NonFiniteRelevancy("A display range holds NaN or infinity.")
    if high < low:
        raise InvalidRequest(f"The display range ends ({high}) below its start ({low}).")
    return high - low <= _FLAT * max(abs(low), abs(high))


def uncoloured(scores: NDArray[np.floating], low: float | NDArray[np.floating]) -> float:
    """What part of a map's relevancy has no colour on an overlay: 0..1.

    Colour begins at `low`, so it shows what a cell has more than that. What all cells have alike
    lies below and is not seen, though it may be most of the whole: told beside an overlay, lest it
    look more certain than its numbers are. 0 where `low` is not positive. low: where each map has
    its own, an array that broadcasts.
    """
    positive = np.clip(np.asarray(scores, np.float64), 0.0, None)
    whole = float(positive.sum())
    return float(np.minimum(positive, np.maximum(low, 0.0)).sum()) / whole if whole > 0 else 0.0


def scale_to_unit(scores: NDArray[np.floating], low: float, high: float) -> NDArray[np.float32]:
    """Scores to float32 0..1 of the same shape: low becomes 0, high 1, what lies beyond is clipped.

    A flat range gives zeros: rounding is never blown up into a picture.
    """
    if is_flat(low, high):
        return np.zeros(np.shape(scores), np.float32)
    # float64: the range of two float32 may be too small, or too large, for float32 itself.
    unit = (np.asarray(scores, np.float64) - float(low)) / (float(high) - float(low))
    return np.clip(unit, 0.0, 1.0).astype(np.float32)
