"""From single questions to the means and intervals of each method."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from medgemma_worker.truth.bootstrap import Estimate, Paired
from medgemma_worker.truth.curves import Curve
from medgemma_worker.truth.measured import Measured
from medgemma_worker.truth.report import (
    CurveReport,
    Interval,
    MethodReport,
    Plausibility,
    Sanity,
)

REFERENCES = ("chefer", "random", "gaussian")
"""Each method's difference to these is told: to the default, and to two that know nothing."""

Floats = NDArray[np.float64]


def method_reports(
    methods: Sequence[str], measured: Sequence[Measured], seed: int
) -> dict[str, MethodReport]:
    """What is told of each method, the same images drawn for all of them."""
    kept = [one for one in measured if one.scored.depends]
    known = [one for one in measured if one.hits]
    swapped = [one for one in measured if one.swapped]
    curves: dict[Curve, dict[str, CurveReport]] = {"deletion": {}, "insertion": {}}
    if kept:
        curves = {
            "deletion": _curves(methods, kept, "deletion", seed),
            "insertion": _curves(methods, kept, "insertion", seed),
        }
    randomised_of = _means(methods, measured, lambda one, name: one.randomised[name], seed)
    swapped_of = _means(methods, swapped, lambda one, name: one.swapped[name], seed)
    mass_of = _means(methods, known, lambda one, name: one.mass[name], seed)
    reports = {}
    for name in methods:
        plausibility = None
        if known:
            hits = sum(one.hits[name] for one in known) / len(known)
            plausibility = Plausibility(hits=hits, mass_over_area=mass_of[name])
        reports[name] = MethodReport(
            deletion=curves["deletion"].get(name),
            insertion=curves["insertion"].get(name),
            plausibility=plausibility,
            sanity=Sanity(randomised=randomised_of[name], swapped=swapped_of.get(name)),
        )
    return reports


def _curves(
    methods: Sequence[str], kept: Sequence[Measured], curve: Curve, seed: int
) -> dict[str, CurveReport]:
    paired = Paired(len(kept), seed)
    found = {
        name: np.array([getattr(one.scored.areas[name], curve) for one in kept]) for name in methods
    }
    return {
        name: CurveReport(
            area=_interval(paired.estimate(found[name])),
            minus={
                other: _interval(paired.estimate(found[name] - found[other]))
                for other in REFERENCES
                if other in found and other != name
            },
            values=tuple(
                np.mean([one.scored.areas[name].values[curve] for one in kept], axis=0).tolist()
            ),
        )
        for name in methods
    }


def _means(
    methods: Sequence[str],
    measured: Sequence[Measured],
    value: Callable[[Measured, str], float],
    seed: int,
) -> dict[str, Interval]:
    """Mean and interval by method; empty where nothing was measured."""
    if not measured:
        return {}
    paired = Paired(len(measured), seed)
    return {
        name: _interval(paired.estimate(np.array([value(one, name) for one in measured])))
        for name in methods
    }


def _interval(estimate: Estimate) -> Interval:
    return Interval(mean=estimate.mean, low=estimate.low, high=estimate.high)
