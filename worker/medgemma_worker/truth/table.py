"""The evaluation as a table of plain text."""

from __future__ import annotations

from medgemma_worker.truth.curves import CURVES
from medgemma_worker.truth.report import CurveReport, Evaluation, Interval
from medgemma_worker.truth.summary import REFERENCES

_GOOD = {"deletion": "low is good", "insertion": "high is good"}


def table(report: Evaluation) -> str:
    """Three blocks: deletion, insertion, and what else was measured. Best area first."""
    name = f"{report.model} ({report.revision}), {report.dtype}"
    what = f"{report.asked} {report.source}"
    if report.first_seed is not None:
        what += f" from seed {report.first_seed}"
    lines = [
        f"{name}; {what}; cells covered by {report.fill}",
        f"answered with the keyword: {report.explained} of {report.asked}; of these the target "
        f"depends on the image (> {report.least_gain:g} nat): {report.kept} "
        f"({report.kept_share:.0%}); answer tokens not reproduced: {report.misses}",
    ]
    if report.kept:
        for curve in CURVES:
            lines += ["", *_curve_block(report, curve)]
    lines += ["", *_other_block(report)]
    return "\n".join(lines)


def _curve_block(report: Evaluation, curve: str) -> list[str]:
    found: dict[str, CurveReport] = {}
    for name, method in report.methods.items():
        of_curve: CurveReport | None = getattr(method, curve)
        if of_curve is not None:
            found[name] = of_curve
    references = [name for name in REFERENCES if name in found]
    title = f"{curve} ({_GOOD[curve]})"
    head = f"{title:<26} {'area':<21}" + "".join(f" {'- ' + r:<24}" for r in references)
    lines = [head.rstrip()]
    best_first = sorted(found, key=lambda name: found[name].area.mean)
    for name in best_first if curve == "deletion" else reversed(best_first):
        one = found[name]
        cells = "".join(f" {_difference(one.minus.get(r)):<24}" for r in references)
        lines.append(f"  {name:<24} {_plain(one.area):<21}{cells}".rstrip())
    lines.append("  Mean and 95% interval over images, paired; * where a difference clears zero.")
    return lines


def _other_block(report: Evaluation) -> list[str]:
    known = any(method.plausibility for method in report.methods.values())
    head = f"{'sanity and plausibility':<26} {'random weights':<24} {'other word':<24}"
    lines = [(head + ("   hits   mass / area" if known else "")).rstrip()]
    for name, method in report.methods.items():
        sanity, plausible = method.sanity, method.plausibility
        swapped = _signed(sanity.swapped) if sanity.swapped else "-"
        line = f"  {name:<24} {_signed(sanity.randomised):<24} {swapped:<24}"
        if plausible:
            line += f" {plausible.hits:>6.1%}   {_numbers(plausible.mass_over_area, '.1f')}"
        lines.append(line.rstrip())
    lines.append(
        "  Random weights, other word: Spearman's correlation with the target's map by the true\n"
        "  weights. A map that is of this model and of this word has it low."
    )
    if known:
        lines.append(
            "  Hits (peak on the lesion or next to it) and mass there over its share of the area\n"
            "  are plausibility, not faithfulness."
        )
    return lines


def _plain(value: Interval) -> str:
    return _numbers(value, ".3f")


def _signed(value: Interval) -> str:
    return _numbers(value, "+.3f")


def _difference(value: Interval | None) -> str:
    if value is None:
        return "-"
    # What is nothing to three digits is no difference, however sure its sign.
    clear = round(value.low, 3) > 0 or round(value.high, 3) < 0
    return _signed(value) + (" *" if clear else "")


def _numbers(value: Interval, how: str) -> str:
    mean, low, high = (_number(x, how) for x in (value.mean, value.low, value.high))
    return f"{mean} [{low}, {high}]"


def _number(value: float, how: str) -> str:
    """As Python has it, less the zero before the point where there are three digits after it."""
    text = f"{value:{how}}"
    short = how.endswith("3f") and abs(value) < 0.9995
    return text.replace("0.", ".", 1) if short else text
