"""How a film is drawn: the thorax, the four lesions and the exposure.

All in grey levels 0..1 and pixels of a 256 x 256 grid. Shapes and shares were chosen by eye.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE: Final = 256  # pixels, height and width

Field = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Thorax:
    """The drawn anatomy: `film` in grey levels 0..1, and what a lesion needs to find its place.

    `depth` is the distance in pixels from the midline, positive on the patient's right
    (image left) and negative on the left; `outer` is the lung's lateral border at each row.
    """

    film: Field
    lung: Field
    depth: Field
    outer: Field
    top: float
    bottom: float


def _soft(x: NDArray[np.floating[Any]], width: float = 2.0) -> Field:
    """A border `width` pixels soft: 0 far below zero, 1 far above."""
    soft: Field = (0.5 + 0.5 * np.tanh(x / (2 * width))).astype(np.float32)
    return soft


def _texture(rng: np.random.Generator, cells: int) -> Field:
    """Smooth noise of unit variance before smoothing, `cells` bumps across the film."""
    coarse = rng.standard_normal((cells, cells)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def _axes() -> tuple[Field, Field]:
    y = np.arange(SIZE, dtype=np.float32)[:, None]
    x = np.arange(SIZE, dtype=np.float32)[None, :]
    return y, x


def draw_thorax(rng: np.random.Generator) -> Thorax:
    y, x = _axes()
    middle = SIZE / 2 + rng.uniform(-4, 4)
    top, bottom = rng.uniform(30, 40), rng.uniform(190, 204)
    width = rng.uniform(86, 96)
    depth = middle - x + 0 * y
    d = np.abs(depth)
    t = np.clip((y - top) / (bottom - top), 0, 1.3)

    body = _soft(106 + 24 * np.exp(-(((y - 50) / 50) ** 2)) - d, 3)
    body = body * np.maximum(_soft(y - 8 - 0.32 * np.maximum(d - 34, 0), 3), _soft(30 - d, 4))
    film: Field = 0.03 + body * (0.42 + 0.10 * np.clip((d - 80) / 40, 0, 1))

    outer = width * (1 - 0.5 * np.clip(1 - t, 0, 1) ** 2.0)
    inner = 17 + 4 * t
    dome = bottom + np.where(depth > 0, -4, 5) + 26 * ((d - 46) / 46) ** 2
    apex = top + 30 * ((d - 36) / 34) ** 2
    borders = np.minimum(np.minimum(outer - d, d - inner), np.minimum(dome - y, y - apex))
    lung = _soft(borders)
    film = film * (1 - lung) + rng.uniform(0.15, 0.21) * lung

    film += 0.20 * np.exp(-((d / 15) ** 2)) * body + 0.05 * _soft(9 - d, 1) * body
    film += 0.10 * body * _soft(y - dome, 2)
    heart_x, heart_y = -rng.uniform(16, 24), bottom - rng.uniform(26, 34)
    lean = 0.35 * (y - heart_y)
    reach = ((depth - heart_x + lean) / rng.uniform(34, 42)) ** 2
    reach = reach + ((y - heart_y) / rng.uniform(36, 44)) ** 2
    heart = _soft((1 - reach) * 20, 2) * np.where(y < dome + 4, 1, 0.3)
    film += 0.26 * heart * (1 - 0.7 * np.exp(-((d / 20) ** 2)))

    pitch = rng.uniform(19, 23)
    behind = (y - top + 0.0030 * d**2 - 0.42 * d) / pitch + rng.uniform()
    before = (y - top - 0.0020 * d**2 - 0.55 * d) / (pitch * 1.15) + rng.uniform()
    cage = _soft(outer + 7 - d, 2) * _soft(y - apex + 6, 3) * _soft(dome + 12 - y, 4)
    film += 0.085 * cage * _soft((np.cos(2 * np.pi * behind) - 0.35) * 8, 2)
    film += 0.040 * cage * _soft((np.cos(2 * np.pi * before) - 0.35) * 8, 2) * _soft(d - 30, 8)
    bone = y - (top + 10 - 0.28 * d + 5 * np.sin(d / 22))
    film += 0.12 * _soft(4.5 - np.abs(bone), 1) * _soft(d - 12) * _soft(100 - d, 3)

    hilum = np.exp(-(((d - 26) / 26) ** 2) - (((t - 0.5) / 0.28) ** 2))
    film += lung * (0.10 * hilum * np.clip(0.6 + _texture(rng, 40), 0, 2))
    film += lung * 0.018 * _texture(rng, 48) + 0.02 * body * _texture(rng, 7)
    return Thorax(film.astype(np.float32), lung, depth, outer, top, bottom)


def _place(thorax: Thorax, zone: str, rng: np.random.Generator) -> tuple[float, float, float]:
    """Centre of a lesion in a zone: (row, column) and the side's sign (+1 is the right)."""
    name, level, _ = zone.split()
    side = 1.0 if name == "right" else -1.0
    third = ("upper", "mid", "lower").index(level)
    t = (third + rng.uniform(0.42, 0.62)) / 3 + (0.05, 0.0, -0.03)[third]
    row = thorax.top + t * (thorax.bottom - thorax.top)
    width = float(thorax.outer[round(row), 0])
    low = 34.0 if side > 0 or third < 2 else 46.0  # lateral of the heart
    depth = rng.uniform(low, max(low + 1, width - 27))
    column = float(np.argmin(np.abs(thorax.depth[0] - side * depth)))
    return row, column, side


def _radius(row: float, column: float, rng: np.random.Generator, uneven: float) -> Field:
    """Distance from a centre, wavering by `uneven` with the angle."""
    y, x = _axes()
    angle = np.arctan2(y - row, x - column)
    turns = sum(np.sin(k * angle + rng.uniform(0, 2 * np.pi)) / k for k in (2, 3, 5))
    wavering: Field = np.hypot(y - row, x - column) * (1 + uneven * turns)
    return wavering.astype(np.float32)


def _nodule(thorax: Thorax, zone: str, rng: np.random.Generator) -> tuple[Field, Mask]:
    row, column, _ = _place(thorax, zone, rng)
    radius, distance = rng.uniform(19, 25), _radius(row, column, rng, 0.03)
    dense = 0.85 * _soft(radius - distance, 1)
    return thorax.film * (1 - dense) + rng.uniform(0.70, 0.82) * dense, distance < radius


def _consolidation(thorax: Thorax, zone: str, rng: np.random.Generator) -> tuple[Field, Mask]:
    row, column, _ = _place(thorax, zone, rng)
    radius, distance = rng.uniform(25, 30), _radius(row, column, rng, 0.13)
    patches = np.clip(0.75 + 0.45 * _texture(rng, 34), 0.2, 1.3)
    density = rng.uniform(0.30, 0.40) * _soft(radius - distance, 4) * patches
    return thorax.film + density * np.maximum(thorax.lung, 0.3), distance < radius


def _cavity(thorax: Thorax, zone: str, rng: np.random.Generator) -> tuple[Field, Mask]:
    row, column, _ = _place(thorax, zone, rng)
    radius, distance = rng.uniform(22, 28), _radius(row, column, rng, 0.05)
    wall = rng.uniform(5, 7)
    ring = _soft(radius - distance, 1) * _soft(distance - (radius - wall), 1)
    hollow = _soft(radius - wall - distance, 1)
    density = rng.uniform(0.30, 0.40) * ring - 0.06 * hollow
    return thorax.film + density, distance < radius


def _pneumothorax(thorax: Thorax, zone: str, rng: np.random.Generator) -> tuple[Field, Mask]:
    """Air along the chest wall: black, without lung markings, behind a thin pleural line."""
    row, _, side = _place(thorax, zone, rng)
    y, _ = _axes()
    half, thickness = rng.uniform(31, 36), rng.uniform(29, 36)
    lens = np.clip(1 - ((y - row) / half) ** 2, 0, 1) ** 0.8
    edge = side * thorax.depth - (thorax.outer - thickness * lens)  # > 0 lateral of the pleura
    inside = thorax.lung * (lens > 0.1) * (side * thorax.depth > 0)
    air = _soft(edge, 1) * inside
    line = np.exp(-((edge / 1.6) ** 2)) * inside
    film = thorax.film * (1 - 0.93 * air) + 0.02 * air
    return film + rng.uniform(0.28, 0.36) * line, (edge > 0) & (inside > 0.5)


Draw = Callable[[Thorax, str, np.random.Generator], tuple[Field, Mask]]
LESIONS: Final[dict[str, Draw]] = {
    "nodule": _nodule,
    "consolidation": _consolidation,
    "pneumothorax": _pneumothorax,
    "cavity": _cavity,
}


def expose(film: Field, rng: np.random.Generator) -> Image.Image:
    """Develop the film: contrast, brightness and grain of this exposure, then 8 bits."""
    grain = rng.uniform(0.012, 0.028) * rng.standard_normal(film.shape, dtype=np.float32)
    exposed = rng.uniform(0.95, 1.12) * np.clip(film, 0, 1) ** rng.uniform(0.88, 1.1) + grain
    return Image.fromarray((np.clip(exposed, 0, 1) * 255).astype(np.uint8))
