"""A result in a terminal's words."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from medgemma_cli.terminal import folded
from medgemma_tasks.zones import in_words

if TYPE_CHECKING:
    from medgemma_client import Result
    from medgemma_tasks.models import ExplanationRecord, TargetRecord

LABEL = 11
"""Characters before what is told: in a terminal all of its lines stand below each other."""

SHOWN = 8
"""Targets, and images of each, that are told of: an answer of 60 tokens would fill the screen."""


def print_result(result: Result, out: Path | None) -> None:
    """What a job came to, its targets one by one, and where to look at it."""
    record = result.record
    label = "Answer".ljust(LABEL)
    for line in result.answer.split("\n"):
        _print(f"{label}{line}")
        label = " " * LABEL if sys.stdout.isatty() else ""
    if len(record.targets) == 1:
        _print_target(record.targets[0])
    else:
        for target in record.targets[:SHOWN]:
            _print_briefly(target)
    if len(record.targets) > SHOWN:
        _print(f"           ... and {len(record.targets) - SHOWN} more targets")
    _print_consistency(record)
    if out is not None:
        print(f"Open       {out / 'report.html'}")


def _print(line: str) -> None:
    print(folded(line, sys.stdout, indent=LABEL))


def _print_target(target: TargetRecord) -> None:
    """The only target of a job, at length."""
    shares = target.shares
    _print(f"Explained  {_named(target)}")
    _print(
        f"Relevancy  images {shares.images:.1%}, prompt {shares.prompt:.1%}, "
        f"earlier answer {shares.answer:.1%}, control tokens {shares.special:.1%}"
    )
    for number, shown in enumerate(target.maps[:SHOWN], start=1):
        which = f"image {number}: " if len(target.maps) > 1 else ""
        if shown.zones is not None:
            _print(f"Where      {which}{in_words(shown.zones)}")
    if target.areas is not None:
        _print(f"Areas      {_areas(target)}")


def _print_briefly(target: TargetRecord) -> None:
    """One of several targets: a line, with the zone that holds most of the image that has most."""
    shares = target.shares
    line = (
        f"Explained  {_named(target)}: images {shares.images:.1%}, prompt {shares.prompt:.1%}, "
        f"earlier answer {shares.answer:.1%}"
    )
    number, most = max(enumerate(target.maps, start=1), key=lambda pair: pair[1].share)
    if most.zones is not None:
        which = f"image {number}, " if len(target.maps) > 1 else ""
        line += f"; {which}{in_words(most.zones, most=1)}"
    _print(line)
    if target.areas is not None:
        _print(f"           {_areas(target)}")


def _named(target: TargetRecord) -> str:
    span = target.span
    tokens = f"{len(span.tokens)} token{'s' if len(span.tokens) > 1 else ''}"
    return f"{span.text!r} ({tokens}{' of the prompt' if span.kind == 'prompt' else ''})"


def _areas(target: TargetRecord) -> str:
    areas = target.areas
    if areas is None or areas.deletion is None or areas.insertion is None:
        return "none: covering the images hardly changes the target"
    return (
        f"deletion {areas.deletion:.3f} (low is good), insertion {areas.insertion:.3f} "
        "(high is good)"
    )


def _print_consistency(record: ExplanationRecord) -> None:
    found = record.consistency
    if found is None or not found.misses:
        return
    if record.answer_given:
        _print(
            f"Given      {found.misses} of {found.checked} tokens of the answer are not what the "
            "model would say there itself."
        )
        return
    _print(
        f"WARNING    {found.misses} of {found.checked} answer tokens were not reproduced when the "
        "answer was re-scored: do not trust this map."
    )
