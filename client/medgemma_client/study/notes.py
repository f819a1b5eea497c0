"""What was chosen and what was left out, in plain sentences that name no file, UID or person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from medgemma_client.study.headers import Frame
from medgemma_client.study.series import Kind, Series, counted
from medgemma_client.study.windows import CT_WINDOWS, Windowing
from medgemma_tasks.errors import InputError

_OFTEN_MARKED = frozenset(("US", "SC", "OT", "ES", "XC"))
"""Modalities of images in which devices write names."""


def of_choice(found: Sequence[Series], at: int, asked: bool) -> list[str]:
    """Which series is shown, and which others there are."""
    chosen = found[at]
    if len(found) == 1:
        said = [f"Shown: {chosen}."]
    else:
        why = "as asked" if asked else "chosen by itself; another can be asked for by its number"
        said = [f"Shown: series {at + 1} of {len(found)} ({chosen}), {why}."]
    others: dict[str, list[int]] = {}
    for number, other in enumerate(found, 1):
        if other is not chosen:
            others.setdefault(f"{other}{_because(other)}", []).append(number)
    said += [f"Left out: series {_listed(numbers)}: {what}." for what, numbers in others.items()]
    first = chosen.frames[0].tags
    if len({frame.tags.study for one in found for frame in one.frames}) > 1:
        said.append("The files are of several studies; make sure that they are of one patient.")
    parts = [one for one in found if one.frames[0].tags.series == first.series]
    if first.series and len(parts) > 1:
        said.append(
            f"The series shown is mixed: its images are of {len(parts)} sizes, directions or kinds "
            "and were taken apart."
        )
    return said


def of_left_out(left_out: Counter[str]) -> list[str]:
    """Files that are nothing to show, by what they are."""
    return [f"Left out: {counted(count, 'file')}: {what}." for what, count in left_out.items()]


def of_damage(damage: Sequence[InputError], what: str) -> list[str]:
    """What could not be read and is done without, by its code. ``what``: "file" or "image"."""
    kinds: dict[str, list[InputError]] = {}
    for error in damage:
        kinds.setdefault(error.code, []).append(error)
    return [
        f"Left out as damaged: {counted(len(same), what)}; the first: {same[0].message}"
        for same in kinds.values()
    ]


def of_pixels(shown: Sequence[Frame], warn: bool) -> list[str]:
    """What the headers say of names burnt into the pixels."""
    marked = sum(frame.tags.burned_in is True for frame in shown)
    if warn and marked:
        return [
            f"The headers of {counted(marked, 'image')} say that names or other text are burnt "
            "into the pixels; they would be uploaded with them."
        ]
    if warn and any(
        frame.tags.burned_in is None and (frame.header.modality in _OFTEN_MARKED or frame.captured)
        for frame in shown
    ):
        return [
            "Nothing says whether names are burnt into the pixels, as they often are in images of "
            "this kind; look before you upload them."
        ]
    return []


def of_values(shown: Sequence[Frame], kind: Kind, windowing: Windowing) -> list[str]:
    """How values become grey or colour."""
    modality = shown[0].header.modality
    if isinstance(windowing, tuple):
        return [f"Shown through the window of centre {windowing[0]:g}, width {windowing[1]:g}."]
    if kind != "volume" or windowing == "file" or modality not in ("CT", "MR", "PT"):
        return []
    if modality != "CT":
        return ["Shown from the smallest to the largest value of the whole acquisition."]
    windows = ", ".join(f"{low:g}..{high:g}" for low, high in CT_WINDOWS)
    said = [f"Shown through three windows, red, green and blue: {windows} HU."]
    if not all(frame.tags.rescaled for frame in shown):
        said.append(
            "Some slices do not say how their values become Hounsfield units; they are taken for "
            "such as they are."
        )
    return said


def _because(series: Series) -> str:
    return {
        "localizer": " (it only shows where slices lie)",
        "derived": " (made from other images)",
        "secondary": " (a captured screen, a report or a scan)",
        "original": "",
    }[series.standing]


def _listed(numbers: Sequence[int]) -> str:
    """Such as "2", "2 and 5", "2, 5 and 7"."""
    *first, last = map(str, numbers)
    return f"{', '.join(first)} and {last}" if first else last
