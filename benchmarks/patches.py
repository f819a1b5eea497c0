"""Are maps over the vision tower's patches finer than the map over its pooled tokens?

Phantoms, the finding's word, the trained phantom model (tokens 16 x 16, patches 32 x 32). Every
map is scored on the grid of the patches by the areas of docs/truth.md. ``coarse`` is each token's
relevancy in equal parts on its patches, that is the enlarged coarse map. Its patches are tied
within a window, so its areas are the mean over several orders of ties.

The maps. ``equal``, ``positive``, ``absolute`` split a token's relevancy over its patches in equal
parts, by max(0, gradient x activation) of the patches before pooling, or by its absolute value.
Then come the tower's layers, last first, with Abar of equation 5: ``+abar`` is v + v Abar, as
equation 6 has it; ``+scaled`` is (1 - 1/L) v + (1/L) v Abar', the rows of Abar scaled to a sum of
1; ``+gained`` is what equation 6 adds to v, without v. ``in window`` takes the outcome as
proportions within each window only, so that a window keeps its token's relevancy.

Controls. ``smooth`` is the coarse map enlarged bilinearly, which knows nothing of the tower.
``shuffled`` is the product's map (``equal+scaled in window``) with the patches of each window in
random order: as uneven, and without meaning.

The first columns. within: standard deviation of the patches of a window, mean over windows, over
the map's mean; between: standard deviation of the windows' means over the map's mean. hit: the peak
lies on a patch of the lesion. mass: the share of the map in the lesion's patches over their share
of the area. border: over the windows that the lesion's edge runs through, what their patches in the
lesion have over what they would have if each window were even; 1 is chance and the coarse map. The
last three are plausibility, not faithfulness. All are means over phantoms.

Then for each map the area of deletion (low is good) and of insertion (high is good) less that of
another, with a paired 95% bootstrap interval over phantoms, * where it clears zero.

A way is chosen on one range of seeds and reported on another: ``--seed 600000``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from medgemma_tasks.errors import EmptyAnswer, KeywordNotInAnswer
from medgemma_worker.loading import load_medgemma
from medgemma_worker.phantom.images import lesion_cells, overlaps_cell
from medgemma_worker.relevancy.explain import explain
from medgemma_worker.relevancy.layer import Layer
from medgemma_worker.relevancy.patches import patch_maps, step
from medgemma_worker.relevancy.tower import Tower
from medgemma_worker.relevancy.windows import from_windows, spread, to_windows
from medgemma_worker.truth.agreement import mass_over_area, peak
from medgemma_worker.truth.bootstrap import Paired
from medgemma_worker.truth.frozen import Frozen, freeze
from medgemma_worker.truth.job import areas
from medgemma_worker.truth.questions import Question, phantoms

if TYPE_CHECKING:
    from transformers import Gemma3ForConditionalGeneration, Gemma3Processor

SEED, BOOTSTRAP_SEED, TIE_SEEDS = 500_000, 0, (0, 1, 2)
COARSE, SMOOTH, SHUFFLED, PRODUCT = "coarse", "smooth", "shuffled", "equal+scaled in window"
REFERENCES = (COARSE, SMOOTH, SHUFFLED)


def products(model: Gemma3ForConditionalGeneration, tower: Tower, gradient: Tensor) -> Tensor:
    """gradient x activation of each patch before pooling: float32 (N,)."""
    with torch.enable_grad():
        patches = model.model.vision_tower.post_layernorm(tower.last).detach().requires_grad_(True)
        features = model.model.multi_modal_projector(patches)
    return (torch.autograd.grad(features, patches, gradient)[0] * patches.detach()).sum(dim=-1)[0]


STARTS: dict[str, Callable[[Tensor], Tensor]] = {
    "equal": torch.ones_like,
    "positive": lambda product: product.clamp(min=0),
    "absolute": torch.abs,
}


class Way:
    """One way through the tower; its name is built as the docstring above says."""

    def __init__(self, name: str, totals: Tensor, product: Tensor, layers: int) -> None:
        rest, self._within, _ = name.partition(" in window")
        start, _, self._rule = rest.partition("+")
        self._totals, self._layers = totals, layers
        self._start = spread(totals, STARTS[start](product))
        self._map = torch.zeros_like(self._start) if self._rule == "gained" else self._start

    def reach(self, layer: Layer, gradient: Tensor) -> None:
        if self._rule == "abar":
            self._map = self._map + layer.weighted_relevancy(self._map, gradient)
        elif self._rule == "scaled":
            self._map = step(layer, gradient, self._map, self._layers)
        elif self._rule == "gained":
            before = self._start + self._map
            self._map = self._map + layer.weighted_relevancy(before, gradient)

    def finish(self) -> Tensor:
        return spread(self._totals, self._map) if self._within else self._map


WAYS = (
    *("equal+abar", "equal+scaled", "positive", "positive+abar", "positive+scaled"),
    *("absolute", "positive+scaled in window", "absolute+scaled in window"),
    *("equal+gained in window", "positive+gained in window", PRODUCT),
)


@dataclass(frozen=True)
class Figures:
    """One map of one phantom."""

    within: float
    between: float
    deletion: float
    insertion: float
    hit: float
    mass: float
    border: float


def maps_of(
    model: Gemma3ForConditionalGeneration,
    processor: Gemma3Processor,
    frozen: Frozen,
    names: Sequence[str],
    index: int,
) -> dict[str, Tensor]:
    """By name, float32 (rows, columns) of patches."""
    row = explain(model, [frozen.passage], [[frozen.target]], gradients=True)[0][0]
    ((first, end),) = frozen.passage.images
    totals, gradient = row.gained[first:end], row.gradient
    assert gradient is not None
    pixels = processor.image_processor(images=list(frozen.images), return_tensors="pt")
    pixels = pixels["pixel_values"].to(model.device, model.dtype)

    tower = Tower(model, pixels)
    product = products(model, tower, gradient)
    ways = {name: Way(name, totals, product, len(tower.layers)) for name in names}
    for layer, gradients in tower.back(tower.pooled(gradient)):
        for way in ways.values():
            way.reach(layer, gradients[0])
    kept = patch_maps(model, pixels, totals[None, None], gradient[None])[0, 0]
    side = kept.shape[0]
    draw = torch.Generator().manual_seed(index)
    windows = to_windows(kept.flatten(), totals.numel())
    order = torch.rand(windows.shape, generator=draw).argsort(dim=-1)
    coarse = spread(totals, torch.ones_like(product))
    smooth = interpolate(totals.view(1, 1, *frozen.grid), size=(side, side), mode="bilinear")
    found = {
        COARSE: coarse,
        SMOOTH: smooth,
        SHUFFLED: from_windows(windows.gather(-1, order)),
        **{name: way.finish() for name, way in ways.items()},
        PRODUCT: kept,
    }
    return {name: one.view(side, side) for name, one in found.items()}


def measure(
    model: Gemma3ForConditionalGeneration,
    processor: Gemma3Processor,
    question: Question,
    names: Sequence[str],
    index: int,
) -> dict[str, Figures] | None:
    """Figures by name of map; None where the target does not depend on the image."""
    frozen = freeze(model, processor, question, max_new_tokens=30)
    maps = {k: v.numpy() for k, v in maps_of(model, processor, frozen, names, index).items()}
    orders = [{**maps}, *[{COARSE: maps[COARSE]} for _ in TIE_SEEDS[1:]]]
    scored = [
        areas(
            model,
            processor,
            frozen.images,
            frozen.passage.token_ids,
            frozen.passage.kinds[0],
            frozen.target,
            {name: one[None] for name, one in of_order.items()},
            seed=seed,
        ).areas
        for seed, of_order in zip(TIE_SEEDS, orders, strict=True)
    ]
    if not scored[0]:
        return None
    assert question.lesion is not None
    tokens = frozen.grid[0] * frozen.grid[1]
    found = {}
    for name, values in maps.items():
        side = values.shape[0]
        lesion = lesion_cells(question.lesion, side)
        curves = [of_order[name] for of_order in scored if name in of_order]
        found[name] = Figures(
            *variation(values, tokens),
            float(np.mean([curve.deletion for curve in curves])),
            float(np.mean([curve.insertion for curve in curves])),
            float(overlaps_cell(question.lesion, peak(values), side, grow=0)),
            mass_over_area(values.astype(np.float64), lesion),
            border_mass(values, lesion, tokens),
        )
    return found


def variation(values: NDArray[np.float32], tokens: int) -> tuple[float, float]:
    """Within and between windows, see above."""
    windows = to_windows(torch.from_numpy(values.astype(np.float64)).flatten(), tokens).numpy()
    mean = windows.mean()
    return float(windows.std(axis=1).mean() / mean), float(windows.mean(axis=1).std() / mean)


def border_mass(values: NDArray[np.float32], lesion: NDArray[np.bool_], tokens: int) -> float:
    """See above; nan where no window has patches on both sides of the lesion's edge."""
    inside = to_windows(torch.from_numpy(lesion).flatten(), tokens).numpy()
    windows = to_windows(torch.from_numpy(values.astype(np.float64)).flatten(), tokens).numpy()
    crossed = inside.any(axis=1) & ~inside.all(axis=1)
    inside, windows = inside[crossed], windows[crossed]
    if not windows.sum():
        return float("nan")
    return float(windows[inside].sum() / (windows.sum(axis=1) * inside.mean(axis=1)).sum())


def table(rows: Sequence[dict[str, Figures]]) -> str:
    paired = Paired(len(rows), BOOTSTRAP_SEED)

    def column(name: str, field: str) -> NDArray[np.float64]:
        return np.array([getattr(row[name], field) for row in rows])

    def mean(name: str, field: str) -> float:
        return float(np.nanmean(column(name, field)))

    def difference(name: str, other: str, field: str) -> str:
        one = paired.estimate(column(name, field) - column(other, field))
        star = " *" if one.clears_zero else ""
        return f"  {one.mean:+.3f} [{one.low:+.3f}, {one.high:+.3f}]{star}".ljust(29)

    names = list(rows[0])
    lines = [
        f"{'':<28}{'within':>7}{'between':>8}{'deletion':>9}{'insertion':>10}{'hit':>5}{'mass':>6}"
        f"{'border':>7}"
    ]
    lines += [
        f"{name:<28}{mean(name, 'within'):>7.3f}{mean(name, 'between'):>8.3f}"
        f"{mean(name, 'deletion'):>9.3f}{mean(name, 'insertion'):>10.3f}{mean(name, 'hit'):>5.0%}"
        f"{mean(name, 'mass'):>6.1f}{mean(name, 'border'):>7.3f}"
        for name in names
    ]
    for curve in ("deletion", "insertion"):
        head = "".join(f"  - {other}".ljust(29) for other in REFERENCES)
        lines += ["", f"{curve:<28}{head}".rstrip()]
        for name in names:
            cells = [
                difference(name, other, curve) if name != other else " " * 29
                for other in REFERENCES
            ]
            lines.append(f"{name:<28}{''.join(cells)}".rstrip())
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=60, help="phantoms")
    parser.add_argument("--seed", type=int, default=SEED, help="of the first phantom")
    parser.add_argument("--ways", nargs="*", default=WAYS, help="which ways through the tower")
    options = parser.parse_args()
    model, processor, _ = load_medgemma("phantom", device="cpu")
    rows: list[dict[str, Figures]] = []
    unanswered = 0
    for index, question in enumerate(phantoms(options.count, options.seed)):
        try:
            one = measure(model, processor, question, options.ways, index)
        except (KeywordNotInAnswer, EmptyAnswer):
            unanswered += 1
            continue
        rows += [one] if one else []
        print(f"\r{index + 1} of {options.count}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print(
        f"{options.count} phantoms from seed {options.seed}: {unanswered} answers without the "
        f"finding, {len(rows)} depend on the image and are measured"
    )
    if rows:
        print(table(rows))
    return 0 if rows else 1


if __name__ == "__main__":
    sys.exit(main())
