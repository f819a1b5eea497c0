"""Does the map of the finding's word lie on the lesion? 200 held-out phantoms of a fixed seed.

Only phantoms with a lesion are drawn; an answer without the word has no peak there and no mass.
Everywhere "near" is the lesion's cells grown by one cell. Judged are the peak cell, which must be
near, and the share of the map's mass that is near over the share of the area that is. Beside it
stand what bounds that: the most that it can be (all mass near), the map of each token of the word
by itself, and where the rest of the mass lies. Plausibility, not faithfulness: a map can lie on the
lesion for the wrong reason.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medgemma_tasks.errors import KeywordNotInAnswer
from medgemma_worker.explainer import MedGemmaExplainer
from medgemma_worker.loading import load_medgemma
from medgemma_worker.phantom.drawing import draw_thorax
from medgemma_worker.phantom.images import (
    GRID,
    KINDS,
    SIZE,
    Mask,
    Phantom,
    lesion_cells,
    make_phantom,
    overlaps_cell,
)
from medgemma_worker.truth.agreement import mass_over_area

SEED, PEAKS_NEEDED, MASS_NEEDED = 900_000, 0.97, 5.0
SINKS = 5
PROMPT = "Is there a finding?"

REGIONS = ("lesion", "ring, 1 cell", "ring, 2nd cell", "rest of the lungs", "outside")
"""Disjoint and together the film; the first two are near."""

Map = NDArray[np.float64]


@dataclass(frozen=True)
class Film:
    """What was measured of one film. share and area: of each region, (5,). elsewhere: the map with
    what is near taken out, over its whole sum. pieces: mass over area by token of the word, each
    explained on its own."""

    kind: str
    hit: bool
    mass: float
    share: Map
    area: Map
    elsewhere: Map
    pieces: tuple[float, ...]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=200)
    count = parser.parse_args().count
    model, processor, _ = load_medgemma("phantom", device="cpu")
    explainer = MedGemmaExplainer(model, processor)
    films = []
    for i in range(count):
        kind = KINDS[i % len(KINDS)]
        films.append(measure(explainer, SEED + i, make_phantom(SEED + i, kind=kind)))
    print(f"{'':<16} peaks near   mass / area   its first token   its others   at most")
    for kind in KINDS:
        some = [film for film in films if film.kind == kind]
        if some:
            peaks = sum(film.hit for film in some)
            most = np.mean([1 / film.area[:2].sum() for film in some])
            mass = np.mean([film.mass for film in some])
            pieces = [film.pieces for film in some if film.pieces]
            first = np.mean([one[0] for one in pieces])
            others = [mass for one in pieces for mass in one[1:]]
            print(
                f"  {kind:<14} {peaks:>3} of {len(some):<4} {mass:>10.2f} {first:>17.2f} "
                f"{f'{np.mean(others):.2f}' if others else '-':>12} {most:>9.1f}"
            )
    print("\n".join(["", *where(films)]))
    hits = sum(film.hit for film in films)
    mass = float(np.mean([film.mass for film in films]))
    met = hits / count >= PEAKS_NEEDED, mass >= MASS_NEEDED
    print(
        f"\npeak near the lesion: {hits} of {count} = {hits / count:.1%} "
        f"(at least {PEAKS_NEEDED:.0%}): {'met' if met[0] else 'MISSED'}"
        f"\nmass near the lesion over its share of the area: {mass:.2f} "
        f"(at least {MASS_NEEDED:.0f}): {'met' if met[1] else 'MISSED'}"
    )
    return 0 if all(met) else 1


def measure(explainer: MedGemmaExplainer, seed: int, phantom: Phantom) -> Film:
    kind = str(phantom.kind)
    lesion, near = lesion_cells(phantom.mask), lesion_cells(phantom.mask, grow=1)
    second = lesion_cells(phantom.mask, grow=2) & ~near
    rest = lungs(seed) & ~near & ~second
    regions = (lesion, near & ~lesion, second, rest, ~(near | second | rest))
    area = np.array([region.mean() for region in regions])
    try:
        result = explainer.explain_keyword(phantom.image, PROMPT, kind)
    except KeywordNotInAnswer:
        return Film(kind, False, 0.0, np.zeros(5), area, np.zeros((GRID, GRID)), ())
    scores = result.image_scores[0].astype(np.float64)
    part = scores / scores.sum()
    positions = result.spans[0].token_positions
    pieces = [explainer.explain(phantom.image, PROMPT, position) for position in positions]
    return Film(
        kind,
        overlaps_cell(phantom.mask, result.peak_cell()),
        mass_over_area(scores, near),
        np.array([part[region].sum() for region in regions]),
        area,
        np.where(near, 0.0, part),
        tuple(mass_over_area(one.image_scores[0].astype(np.float64), near) for one in pieces),
    )


def lungs(seed: int) -> Mask:
    """Cells that are lung by half, of the thorax that ``make_phantom`` draws from a seed."""
    lung = draw_thorax(np.random.Generator(np.random.PCG64([seed, 1]))).lung
    cell = SIZE // GRID
    return np.asarray(lung.reshape(GRID, cell, GRID, cell).mean(axis=(1, 3)) >= 0.5)


def where(films: list[Film]) -> list[str]:
    """Where the mass lies, and whether a few cells hold what is not near."""
    share = np.mean([film.share for film in films], axis=0)
    area = np.mean([film.area for film in films], axis=0)
    lines = [f"{'':<20} of the area   of the mass   mass / area"]
    for name, s, a in zip(REGIONS, share, area, strict=True):
        lines.append(f"  {name:<18} {a:>11.1%} {s:>13.1%} {s / a:>13.2f}")
    elsewhere = np.array([film.elsewhere.ravel() for film in films])
    total = elsewhere.sum() or 1.0
    own = np.sort(elsewhere, axis=1)[:, -SINKS:].sum() / total
    cells = np.argsort(elsewhere.sum(axis=0))[-SINKS:][::-1]
    same = elsewhere[:, cells].sum() / total
    places = ", ".join(f"({cell // GRID}, {cell % GRID})" for cell in cells)
    return [
        *lines,
        f"  Of the mass that is not near, the {SINKS} largest cells of each map hold {own:.0%},",
        f"  the {SINKS} cells that hold most over all films {same:.0%}: {places}",
        f"  (row, column). {SINKS / GRID**2:.0%} if all cells held the same.",
    ]


if __name__ == "__main__":
    sys.exit(main())
