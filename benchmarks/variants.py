"""Is there a better map than the published rule? Chosen on some phantoms, measured on others.

The variants (``variant_maps.py``) are scored over the same images. The lowest deletion area over
the development phantoms chooses twice: of all, and of the variants of the rule. Whether each is
better than ``chefer`` is then read off the report phantoms alone, from the paired 95% bootstrap
interval of the difference.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from variant_maps import OF_THE_RULE, VARIANTS, Case

from medgemma_tasks.errors import EmptyAnswer, KeywordNotInAnswer
from medgemma_worker.loading import load_medgemma
from medgemma_worker.phantom.images import lesion_cells, overlaps_cell
from medgemma_worker.truth.agreement import mass_over_area, peak
from medgemma_worker.truth.bootstrap import Estimate, Paired
from medgemma_worker.truth.frozen import freeze
from medgemma_worker.truth.job import areas
from medgemma_worker.truth.perturb import Fill
from medgemma_worker.truth.questions import phantoms

DEV_SEED, REPORT_SEED = 700_000, 800_000
BOOTSTRAP_SEED = 0


@dataclass(frozen=True)
class Scores:
    """Of one map. deletion, insertion: areas. hit: the peak is on the grown lesion. mass: there,
    over its share of the area, of what is above 0."""

    deletion: float
    insertion: float
    hit: bool
    mass: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=200, help="of each of the two sets")
    parser.add_argument("--dev-seed", type=int, default=DEV_SEED)
    parser.add_argument("--report-seed", type=int, default=REPORT_SEED)
    parser.add_argument(
        "--fill",
        choices=["blur", "mean"],
        default="blur",
        help="what covers a cell as maps are scored; those that need a covered image take the blur",
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument(
        "--keep",
        type=Path,
        help="folder of each phantom's scores, taken from there if they are there",
    )
    options = parser.parse_args()
    with ProcessPoolExecutor(options.jobs) as pool:
        development = measure(pool, options.count, options.dev_seed, options.fill, options.keep)
        print(f"development, {options.count} phantoms from seed {options.dev_seed}")
        print(table(development), flush=True)
        chosen = list(
            dict.fromkeys([choose(development, VARIANTS), choose(development, OF_THE_RULE)])
        )
        print(f"\nchosen there, by deletion area: {', '.join(chosen)}\n", flush=True)
        reported = measure(pool, options.count, options.report_seed, options.fill, options.keep)
    print(f"report, {options.count} phantoms from seed {options.report_seed}")
    print(table(reported))
    for name in chosen:
        print(f"\n{verdict(reported, name)}")
    return 0


def measure(
    pool: ProcessPoolExecutor, count: int, seed: int, fill: Fill, keep: Path | None
) -> list[dict[str, Scores]]:
    """The scores of every variant for each question whose target depends on the image."""
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
    found = []
    began = time.perf_counter()
    places = [(seed, i, fill, keep) for i in range(count)]
    for i, one in enumerate(pool.map(kept_or_scored, places)):
        told = "kept" if one else "left out"
        seconds = time.perf_counter() - began
        print(f"{i + 1} of {count}, {told}, {seconds:.0f} s", file=sys.stderr, flush=True)
        if one:
            found.append(one)
    return found


def kept_or_scored(place: tuple[int, int, Fill, Path | None]) -> dict[str, Scores] | None:
    """``score``, looked up first among those kept: hours on a shared machine may be cut short."""
    seed, i, fill, folder = place
    file = folder / f"{fill}-{seed}-{i}.json" if folder else None
    if file and file.exists():
        told = json.loads(file.read_text())
        return told and {name: Scores(**one) for name, one in told.items()}
    found = score(seed, i, fill)
    if file:
        told = found and {name: asdict(one) for name, one in found.items()}
        file.write_text(json.dumps(told, indent=1) + "\n")
    return found


def score(seed: int, i: int, fill: Fill) -> dict[str, Scores] | None:
    """Of phantom ``i`` from a seed, by variant; None where no curve can be drawn."""
    model, processor = phantom_model()
    question = next(itertools.islice(phantoms(i + 1, seed), i, None))
    try:
        frozen = freeze(model, processor, question, max_new_tokens=300)
    except (KeywordNotInAnswer, EmptyAnswer):
        return None
    case = Case(model, processor, frozen)
    maps = {name: draw(case) for name, draw in VARIANTS.items()}
    # All maps together, so that a covering that several of them ask for is scored once.
    scored = areas(
        model,
        processor,
        frozen.images,
        frozen.passage.token_ids,
        frozen.passage.kinds[0],
        frozen.target,
        maps,
        fill=fill,
    )
    if not scored.depends:
        return None
    lesion, side = question.lesion, frozen.grid[0]
    assert lesion is not None, "phantoms() draws films with a lesion"
    near = lesion_cells(lesion, side, grow=1)
    return {
        name: Scores(
            scored.areas[name].deletion,
            scored.areas[name].insertion,
            overlaps_cell(lesion, peak(values[0]), side, grow=1),
            mass_over_area(np.maximum(values[0], 0).astype(np.float64), near),
        )
        for name, values in maps.items()
    }


@functools.cache
def phantom_model() -> tuple[Any, Any]:
    model, processor, _ = load_medgemma("phantom", device="cpu")
    return model, processor


def choose(found: Sequence[dict[str, Scores]], names: Iterable[str]) -> str:
    """The one with the lowest mean deletion area, ``chefer`` aside."""
    means = {
        name: np.mean([one[name].deletion for one in found]) for name in names if name != "chefer"
    }
    return min(means, key=lambda name: means[name])


def difference(found: Sequence[dict[str, Scores]], name: str, curve: str) -> Estimate:
    """A variant's area less that of ``chefer``, paired over images."""
    pairs = [(getattr(one[name], curve), getattr(one["chefer"], curve)) for one in found]
    each = np.array([a - b for a, b in pairs], dtype=np.float64)
    return Paired(len(found), BOOTSTRAP_SEED).estimate(each)


def table(found: Sequence[dict[str, Scores]]) -> str:
    """One line a variant, lowest deletion area first."""
    curves = ("deletion", "insertion")
    means = {
        name: [float(np.mean([getattr(one[name], curve) for one in found])) for curve in curves]
        for name in VARIANTS
    }
    lines = [
        f"{len(found)} depend on the image"
        f"\n{'':<29} deletion  - chefer                  insertion  - chefer                 "
        "  hits   mass / area"
    ]
    for name in sorted(means, key=lambda name: means[name][0]):
        cells = [f"  {name:<27}"]
        for curve, mean in zip(curves, means[name], strict=True):
            cells.append(f"{mean:<8.4f}  {_interval(difference(found, name, curve)):<25}")
        hits = float(np.mean([one[name].hit for one in found]))
        mass = float(np.mean([one[name].mass for one in found]))
        lines.append(f"{' '.join(cells)} {hits:>6.1%}   {mass:.2f}")
    lines.append("  Differences: mean and 95% interval over images, paired; * clears zero.")
    return "\n".join(lines)


def verdict(found: Sequence[dict[str, Scores]], chosen: str) -> str:
    """A plain sentence."""
    gain = difference(found, chosen, "deletion")
    said = f"{chosen} less chefer, deletion area on the report phantoms: {_interval(gain)}"
    if gain.high < 0:
        return f"{said}. The interval clears zero: {chosen} is better than chefer there."
    if gain.low > 0:
        return f"{said}. The interval clears zero on the wrong side: {chosen} is worse than chefer."
    return f"{said}. The interval does not clear zero: it is not shown to be better."


def _interval(estimate: Estimate) -> str:
    if estimate.low == estimate.high == 0:
        return "-"
    mark = " *" if estimate.clears_zero else ""
    return f"{estimate.mean:+.4f} [{estimate.low:+.4f}, {estimate.high:+.4f}]{mark}"


if __name__ == "__main__":
    sys.exit(main())
