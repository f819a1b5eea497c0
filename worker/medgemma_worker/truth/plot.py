"""The evaluation as one picture: areas with their intervals, and the curves, drawn with Pillow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from PIL import Image, ImageDraw, ImageFont

from medgemma_worker.truth.curves import CURVES
from medgemma_worker.truth.report import CurveReport, Evaluation

# Okabe, Ito, *Color Universal Design*, 2008: told apart with every common kind of colour vision.
# Ten methods are more than eight colours, so that each also has a mark and a dash of its own.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#777777")
MARKS = ("circle", "square", "triangle", "diamond", "cross")

SCALE = 2
"""Drawn larger and reduced, since Pillow draws lines without smoothing."""

WIDTH, MARGIN, LEFT, GAP = 1240, 24, 150, 46
ROW = 26
CURVE_HEIGHT = 330
INK, FAINT = "#222222", "#dddddd"


@dataclass(frozen=True)
class _Axes:
    """A panel: its edges in pixels, and the values at them."""

    left: float
    top: float
    right: float
    bottom: float
    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x[0]) / ((self.x[1] - self.x[0]) or 1.0)
        up = (y - self.y[0]) / ((self.y[1] - self.y[0]) or 1.0)
        return (
            self.left + across * (self.right - self.left),
            self.bottom - up * (self.bottom - self.top),
        )


def draw(report: Evaluation) -> Image.Image:
    """Above, the area of each method with its interval, lowest deletion first; below, the mean
    curves in the same colours and marks. Both panels of a row have one scale. Mode "RGB"."""
    deletion = {name: one.deletion for name, one in report.methods.items() if one.deletion}
    names = sorted(deletion, key=lambda name: deletion[name].area.mean)
    rows = ROW * max(1, len(names))
    height = 2 * MARGIN + 110 + rows + 70 + CURVE_HEIGHT + 60
    image = Image.new("RGB", (WIDTH * SCALE, height * SCALE), "white")
    pen = _Pen(ImageDraw.Draw(image))
    pen.text(MARGIN, MARGIN, "Insertion and deletion by method", 20)
    told = f"{report.model} {report.revision[:16]}, {report.kept} of {report.explained} "
    told += f"{report.source} depend on the image; cells covered by {report.fill}; "
    told += "95% intervals, bootstrap over images"
    pen.text(MARGIN, MARGIN + 28, told, 13)
    if not names:
        pen.text(MARGIN, MARGIN + 70, "No question depends on the image: nothing to draw.", 16)
        return image.resize((WIDTH, height), Image.Resampling.LANCZOS)
    # By the report's order, so that a method looks alike in every plot.
    styles = {name: i for i, name in enumerate(deletion)}
    curves = {curve: {n: getattr(report.methods[n], curve) for n in names} for curve in CURVES}
    of_all = [one for found in curves.values() for one in found.values()]
    across = (
        min(0.0, *(one.area.low for one in of_all)),
        max(1.0, *(one.area.high for one in of_all)),
    )
    panel = (WIDTH - 2 * MARGIN - LEFT - GAP) / 2
    top = MARGIN + 90
    for i, (curve, found) in enumerate(curves.items()):
        left = MARGIN + LEFT + i * (panel + GAP)
        pen.text(left, top - 26, f"Area under {curve} ({_good(curve)})", 15)
        _areas(pen, found, styles, left, top, left + panel, across, label=i == 0)
        below = top + rows + 84
        pen.text(left, below - 26, f"{curve.capitalize()}: mean normalised p of the target", 15)
        axes = _Axes(
            left,
            below,
            left + panel,
            below + CURVE_HEIGHT,
            (0.0, float(max(1, len(report.steps) - 1))),
            _range(of_all),
        )
        _curves(pen, found, styles, axes, report.steps)
        done = "deleted" if curve == "deletion" else "inserted"
        said = f"cells {done}, of {report.cells} (logarithmic)"
        pen.text((left + left + panel) / 2, axes.bottom + 26, said, 13, "mt")
    return image.resize((WIDTH, height), Image.Resampling.LANCZOS)


def _good(curve: str) -> str:
    return "low is good" if curve == "deletion" else "high is good"


def _range(curves: Iterable[CurveReport]) -> tuple[float, float]:
    """From 0 to 1, and further in tenths where a curve goes further."""
    values = [value for one in curves for value in one.values]
    low, high = min(0.0, *values), max(1.0, *values)
    return (low // 0.1) / 10, -((-high) // 0.1) / 10


def _areas(
    pen: _Pen,
    found: dict[str, CurveReport],
    styles: dict[str, int],
    left: float,
    top: float,
    right: float,
    across: tuple[float, float],
    *,
    label: bool,
) -> None:
    bottom = top + ROW * len(found)
    axes = _Axes(left, top, right, bottom, across, (float(len(found)), 0.0))
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, _ = axes.at(tick, 0)
        pen.line([(x, top), (x, bottom)], FAINT, 1)
        pen.text(x, bottom + 6, f"{tick:g}", 12, "mt")
    for i, (name, one) in enumerate(found.items()):
        y = top + (i + 0.5) * ROW
        (a, _), (b, _), (x, _) = (
            axes.at(v, 0) for v in (one.area.low, one.area.high, one.area.mean)
        )
        if label:
            pen.text(left - 12, y, name, 13, "rm")
        pen.line([(a, y), (b, y)], _colour(styles[name]), 2)
        pen.mark(x, y, styles[name])


def _curves(
    pen: _Pen,
    found: dict[str, CurveReport],
    styles: dict[str, int],
    axes: _Axes,
    steps: tuple[int, ...],
) -> None:
    tick = axes.y[0]
    while tick <= axes.y[1] + 1e-9:
        if round(tick * 10) % 2 == 0:
            _, y = axes.at(0, tick)
            pen.line([(axes.left, y), (axes.right, y)], FAINT, 1)
            pen.text(axes.left - 12, y, f"{abs(tick) if abs(tick) < 1e-9 else tick:.1f}", 12, "rm")
        tick += 0.1
    for i, step in enumerate(steps):
        x, _ = axes.at(i, 0)
        pen.line([(x, axes.bottom), (x, axes.bottom + 4)], INK, 1)
        pen.text(x, axes.bottom + 8, str(step), 12, "mt")
    # The first on top: where two methods are one, the default is the one that is seen.
    for name, one in sorted(found.items(), key=lambda item: -styles[item[0]]):
        points = [axes.at(i, value) for i, value in enumerate(one.values)]
        pen.line(points, _colour(styles[name]), 2, dashed=styles[name] >= len(COLOURS))
        for x, y in points:
            pen.mark(x, y, styles[name])


def _colour(style: int) -> str:
    return COLOURS[style % len(COLOURS)]


class _Pen:
    """Draws in unscaled pixels."""

    def __init__(self, draw: ImageDraw.ImageDraw) -> None:
        self._draw = draw

    def text(self, x: float, y: float, text: str, size: int, anchor: str = "lt") -> None:
        font = ImageFont.load_default(size * SCALE)
        self._draw.text((x * SCALE, y * SCALE), text, fill=INK, font=font, anchor=anchor)

    def line(
        self, points: list[tuple[float, float]], colour: str, width: int, *, dashed: bool = False
    ) -> None:
        scaled = [(x * SCALE, y * SCALE) for x, y in points]
        if not dashed:
            self._draw.line(scaled, fill=colour, width=width * SCALE, joint="curve")
            return
        for (a, b), (c, d) in pairwise(scaled):
            parts = max(1, round(((c - a) ** 2 + (d - b) ** 2) ** 0.5 / (12 * SCALE)))
            for i in range(parts):
                s, e = i / parts, (i + 0.55) / parts
                dash = [(a + (c - a) * s, b + (d - b) * s), (a + (c - a) * e, b + (d - b) * e)]
                self._draw.line(dash, fill=colour, width=width * SCALE)

    def mark(self, x: float, y: float, style: int) -> None:
        colour, kind = _colour(style), MARKS[style % len(MARKS)]
        x, y, r = x * SCALE, y * SCALE, 4.5 * SCALE
        if kind == "circle":
            self._draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)
        elif kind == "square":
            self._draw.rectangle((x - r, y - r, x + r, y + r), fill=colour)
        elif kind == "triangle":
            self._draw.polygon([(x, y - r), (x + r, y + r), (x - r, y + r)], fill=colour)
        elif kind == "diamond":
            r *= 1.25
            self._draw.polygon([(x, y - r), (x + r, y), (x, y + r), (x - r, y)], fill=colour)
        else:
            for sign in (1, -1):
                ends = [(x - r, y - sign * r), (x + r, y + sign * r)]
                self._draw.line(ends, fill=colour, width=2 * SCALE)
