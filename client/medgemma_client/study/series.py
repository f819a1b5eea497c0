"""What a study consists of: its images by series and orientation, the best to be shown first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from medgemma_client.study.headers import Frame
from medgemma_client.study.volume import same_direction, view_of
from medgemma_tasks.errors import SeriesNotFound, StudyEmpty

Kind = Literal["volume", "images", "loop", "patches"]
"""Slices of one body; images of their own, such as radiographs; frames one after another in time;
parts of a slide."""
Standing = Literal["original", "derived", "secondary", "localizer"]
"""Derived: made from other images. Secondary: a picture of a screen, a report, a scan of paper."""

_SLICES = frozenset(("CT", "MR", "PT"))
_SLIDE = "SM"
_FRONTAL = frozenset(("PA", "AP"))
_ORDER: tuple[Standing, ...] = ("original", "derived", "secondary", "localizer")
_PLURAL = {"volume": "slice", "images": "image", "loop": "frame", "patches": "patch"}


@dataclass(frozen=True, repr=False)
class Series:
    """Images that can be shown together: of one series, one size, one direction."""

    frames: tuple[Frame, ...]
    """In the order of the files."""
    kind: Kind
    standing: Standing

    @property
    def modality(self) -> str | None:
        return self.frames[0].header.modality

    def __str__(self) -> str:
        """Such as "CT, 30 slices, axial". Terms of the standard alone."""
        what = [self.modality or "unknown modality", counted(len(self.frames), _PLURAL[self.kind])]
        if self.kind == "volume" and (view := view_of(self.frames[0].orientation)):
            what.append(view)
        if self.standing != "original":
            what.append(self.standing)
        return ", ".join(what)


def group(frames: Iterable[Frame]) -> list[Series]:
    """The series of a study, the one that is shown unless another is asked for first.

    That is: an original one before a derived, a captured or a localizer; a volume before single
    images; a frontal view before others; then the one of most images, and the lowest number.
    """
    parts: dict[tuple[object, ...], list[list[Frame]]] = {}
    for frame in frames:
        clusters = parts.setdefault(_key(frame), [])
        for cluster in clusters:
            if same_direction(cluster[0].orientation, frame.orientation):
                cluster.append(frame)
                break
        else:
            clusters.append([frame])
    found = [_series(cluster) for clusters in parts.values() for cluster in clusters]
    return sorted(found, key=_rank)


def choose(found: list[Series], wanted: int | str | None, like: str | None = None) -> int:
    """Which one is shown, from 0.

    ``wanted``: its number, from 1, or a modality (the first one of it); None takes the first that
    is no localizer, or the first of the modality ``like`` where there is one.

    Raises:
        SeriesNotFound: There is no such series.
        StudyEmpty: There are only localizers.
    """
    at: int | None
    if wanted is None:
        if found[0].standing == "localizer":  # the last in rank
            raise StudyEmpty(
                "The study has nothing but localizers, which only show where slices lie. Add the "
                "slices, or ask for one of them by its number.",
                left_out={"localizer": len(found)},
            )
        likely = [one.modality == like and one.standing != "localizer" for one in found]
        at = likely.index(True) if like and any(likely) else 0
    elif isinstance(wanted, int):
        at = wanted - 1 if 1 <= wanted <= len(found) else None
    else:
        named = wanted.upper()
        at = next((at for at, one in enumerate(found) if one.modality == named), None)
    if at is None:
        there = "; ".join(f"{number}: {one}" for number, one in enumerate(found, 1))
        raise SeriesNotFound(
            f"The study has no such series to show. It has {there or 'none'}. Name one by its "
            "number.",
            series=len(found),
        )
    return at


def in_order(frames: Sequence[Frame]) -> list[Frame]:
    """Images that are no slices: frontal views first, then by instance number and file."""
    return sorted(
        frames, key=lambda frame: (frame.tags.view not in _FRONTAL, frame.tags.number, frame.at)
    )


def counted(count: int, what: str) -> str:
    """Such as "1 slice", "2 slices", "3 patches"."""
    ending = "" if count == 1 else "es" if what.endswith("ch") else "s"
    return f"{count} {what}{ending}"


def _key(frame: Frame) -> tuple[object, ...]:
    header, tags = frame.header, frame.tags
    return (
        tags.study,
        tags.series,
        tags.space,
        header.modality,
        header.rows,
        header.columns,
        header.photometric,
        tags.instance if header.frames > 1 else "",
        _standing(frame),
    )


def _series(frames: list[Frame]) -> Series:
    first = frames[0]
    standing = _standing(first)
    kind: Kind = "images"
    if first.header.modality == _SLIDE:
        kind = "patches"
    elif standing != "secondary" and first.header.photometric.startswith("MONOCHROME"):
        several = len(frames) > 1 and first.header.frames > 1
        if first.header.modality in _SLICES or (several and all(one.placed for one in frames)):
            kind = "volume"
    if kind == "images" and first.header.frames > 1:
        kind = "loop"
    return Series(tuple(frames), kind, standing)


def _standing(frame: Frame) -> Standing:
    types = frame.tags.types
    if "LOCALIZER" in types:
        return "localizer"
    if frame.captured:
        return "secondary"
    # A processed radiograph is derived, and the one that is read; a volume's slices may be
    # resampled and primary.
    if frame.header.modality in _SLICES and {"DERIVED", "SECONDARY"} <= types:
        return "derived"
    return "original"


def _rank(series: Series) -> tuple[object, ...]:
    first = series.frames[0]
    return (
        _ORDER.index(series.standing),
        series.kind != "volume" or len(series.frames) == 1,
        not any(frame.tags.view in _FRONTAL for frame in series.frames),
        -len(series.frames),
        first.tags.series_number,
        first.at,
    )
