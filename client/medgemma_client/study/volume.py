"""Slices as a volume: their order, their places in the patient, and whether these can be true.

Coordinates are those of DICOM: mm, x to the patient's left, y to the back, z to the head (LPS).
Slices are ordered along the normal, row x column, so that column, row and slice count up in a
right-handed system (PS3.3 C.7.6.2.1.1). InstanceNumber is not looked at: its order is that
of the scanner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medgemma_client.study.headers import Frame
from medgemma_tasks.errors import (
    GeometryContradictory,
    GeometryMissing,
    SliceGeometry,
    SlicesDuplicated,
    SlicesUneven,
)
from medgemma_tasks.models import Plane

Vectors = NDArray[np.float64]

_DIRECTION = 0.01
"""By how much cosines of one direction may differ: some 0.6 degrees."""
_SQUARE = 0.01
"""How far from 1 a cosine vector's length may be, and from 0 the product of both."""
_STEP = 0.05
"""Part of the usual step by which another may differ; headers round to 0.1 mm or so."""
_ROUNDING_MM = 0.05
_TILT_DEGREES = 0.5
"""From which on a drift of the slices is told of."""
_AXES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True, repr=False)
class Volume:
    """All slices of the acquisition, in order, whether shown or not."""

    planes: tuple[Plane, ...]
    shape: tuple[int, int, int]
    """Slices, rows, columns."""
    spacing_mm: tuple[float, float]
    """Between rows, and between columns."""
    step_mm: float | None
    """Between slices, along the normal; None of a single one."""
    affine: NDArray[np.float64] | None
    """(4, 4): from (column, row, slice, 1), each from 0, to (x, y, z, 1) in mm, LPS. A tilted
    gantry is in it. None where no one matrix tells the place of every slice."""

    def place(self, column: float, row: float, slice_: int) -> tuple[float, float, float]:
        """Where in the patient the centre of a pixel lies, in mm, LPS."""
        plane = self.planes[slice_]
        point = (
            np.array(plane.origin_mm)
            + np.array(plane.row) * column * self.spacing_mm[1]
            + np.array(plane.column) * row * self.spacing_mm[0]
        )
        return float(point[0]), float(point[1]), float(point[2])


@dataclass(frozen=True, repr=False)
class Arranged:
    frames: tuple[Frame, ...]
    """In their order."""
    volume: Volume | None
    """None where the headers do not say enough."""
    faults: tuple[SliceGeometry, ...]
    """What is wrong, the gravest first; the order is the best that can be made of it."""
    notes: tuple[str, ...]
    """What is worth knowing, and not wrong."""


def arrange(frames: Sequence[Frame]) -> Arranged:
    """Order the slices of one series, all of one size and one direction."""
    fault = _missing(frames) or _contradictory(frames)
    if fault is not None:
        by_number = sorted(frames, key=lambda frame: (frame.tags.number, frame.at))
        return Arranged(tuple(by_number), None, (fault,), ())
    row, column, normal = _directions(frames[0].orientation)
    places = np.array([frame.position for frame in frames], np.float64)
    depth = places @ normal
    order = sorted(range(len(frames)), key=lambda k: (depth[k], *_age(frames[k])))
    step = _usual_step(depth[order])
    kept = _once_each(order, depth, step)
    faults: list[SliceGeometry] = []
    if len(kept) < len(frames):
        faults.append(
            SlicesDuplicated(
                f"{len(frames) - len(kept)} of {len(frames)} slices lie where another one does: "
                "several acquisitions, echoes or moments in one series. The first of each place "
                "is taken where you go on.",
                slices=len(frames),
                places=len(kept),
            )
        )
    drift, notes = places[kept] - depth[kept][:, None] * normal, []
    if (uneven := _uneven(depth[kept], drift, step)) is not None:
        faults.append(uneven)
    elif len(kept) > 1 and (tilt := _tilt(depth[kept], drift)) >= _TILT_DEGREES:
        notes.append(
            f"The slices lean by {tilt:.1f} degrees (a tilted gantry); each keeps its own place."
        )
    ordered = tuple(frames[k] for k in kept)
    volume = _volume(ordered, places[kept], (row, column, normal), step, uneven is None)
    return Arranged(ordered, volume, tuple(faults), tuple(notes))


def same_direction(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two ImageOrientationPatient mean the same; a missing one differs from any other."""
    return len(one) == len(other) and all(
        abs(a - b) <= _DIRECTION for a, b in zip(one, other, strict=True)
    )


def view_of(orientation: Sequence[float]) -> str:
    """Axial, coronal, sagittal, oblique; empty where unknown."""
    if len(orientation) != 6:
        return ""
    normal = np.abs(np.cross(orientation[:3], orientation[3:]))
    main = int(normal.argmax())
    return _AXES[main] if normal[main] > 0.8 * np.linalg.norm(normal) else "oblique"


def _missing(frames: Sequence[Frame]) -> GeometryMissing | None:
    lacking = {
        "position": sum(len(frame.position) != 3 for frame in frames),
        "orientation": sum(len(frame.orientation) != 6 for frame in frames),
        "pixel spacing": sum(frame.header.spacing_mm is None for frame in frames),
    }
    if not any(lacking.values()):
        return None
    said = ", ".join(f"{name} ({count})" for name, count in lacking.items() if count)
    return GeometryMissing(
        f"Not all slices ({len(frames)}) say where they lie; missing are: {said}. Where you go on "
        "they are taken in the order of their instance numbers, with no place in the patient.",
        slices=len(frames),
    )


def _contradictory(frames: Sequence[Frame]) -> GeometryContradictory | None:
    what = ""
    for frame in frames:
        row, column = np.array(frame.orientation[:3]), np.array(frame.orientation[3:])
        lengths = np.array([np.linalg.norm(row), np.linalg.norm(column)])
        if np.abs(lengths - 1).max() > _SQUARE or abs(row @ column) > _SQUARE:
            what = "the directions of rows and columns are no right angle, or no unit vectors"
            break
        if _letters_contradict(frame):
            what = "its PatientOrientation and its ImageOrientationPatient differ"
            break
    first = frames[0].header.spacing_mm or (1.0, 1.0)
    if not what and any(
        not np.allclose(frame.header.spacing_mm or first, first, rtol=0.01) for frame in frames
    ):
        what = "the spacing of pixels differs between slices"
    if not what:
        return None
    return GeometryContradictory(
        f"The headers of the slices contradict themselves: {what}. Where you go on they are taken "
        "in the order of their instance numbers, with no place in the patient.",
        slices=len(frames),
    )


def _letters_contradict(frame: Frame) -> bool:
    letters = frame.header.patient_orientation
    if len(letters) != 2 or not all(letters):
        return False
    for axis, said in enumerate(letters):
        cosines = frame.orientation[3 * axis : 3 * axis + 3]
        main = max(range(3), key=lambda k: abs(cosines[k]))
        means = ("LR", "PA", "HF")[main]
        # A main direction by more than a little, and a letter for the opposite one.
        if abs(cosines[main]) > 0.8 and said[0] == means[cosines[main] > 0]:
            return True
        if abs(cosines[main]) > 0.95 and said[0] in "LRPAHF" and said[0] not in means:
            return True
    return False


def _directions(orientation: Sequence[float]) -> tuple[Vectors, Vectors, Vectors]:
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    row = row / np.linalg.norm(row)
    column = column / np.linalg.norm(column)
    normal = np.cross(row, column)
    return row, column, normal / np.linalg.norm(normal)


def _age(frame: Frame) -> tuple[int, int, int]:
    return frame.tags.acquisition, frame.tags.number, frame.at


def _usual_step(depth: Vectors) -> float | None:
    """The median distance of neighbours that are not at one place."""
    gaps = np.diff(depth)
    gaps = gaps[gaps > 1e-3]
    return float(np.median(gaps)) if gaps.size else None


def _once_each(order: Sequence[int], depth: Vectors, step: float | None) -> list[int]:
    near = max(1e-3, _STEP * (step or 0.0))
    kept: list[int] = []
    for k in order:
        if not kept or depth[k] - depth[kept[-1]] > near:
            kept.append(k)
    return kept


def _uneven(depth: Vectors, drift: Vectors, step: float | None) -> SlicesUneven | None:
    if step is None or len(depth) < 2:
        return None
    gaps = np.diff(depth)
    wrong = np.flatnonzero(np.abs(gaps - step) > _STEP * step + _ROUNDING_MM)
    if wrong.size:
        at = int(wrong[0])
        return SlicesUneven(
            f"The slices lie at uneven distances: {gaps[at]:.2f} mm between slice {at + 1} and "
            f"{at + 2}, where {step:.2f} mm is usual; so at {wrong.size} of {gaps.size} places. "
            "Slices may be missing.",
            at=at + 1,
            places=int(wrong.size),
            gap_mm=float(gaps[at]),
            step_mm=step,
        )
    along = (depth - depth[0])[:, None] / (depth[-1] - depth[0])
    off = np.linalg.norm(drift - drift[0] - along * (drift[-1] - drift[0]), axis=1)
    if off.max() > max(0.5, 0.1 * step):
        return SlicesUneven(
            f"The slices are shifted against each other, by up to {off.max():.1f} mm, as if they "
            "were of several volumes.",
            shift_mm=float(off.max()),
        )
    return None


def _tilt(depth: Vectors, drift: Vectors) -> float:
    """The angle between the normal and the way from slice to slice, in degrees."""
    sideways = np.linalg.norm(drift[-1] - drift[0])
    return float(np.degrees(np.arctan2(sideways, depth[-1] - depth[0])))


def _volume(
    frames: Sequence[Frame],
    places: Vectors,
    directions: tuple[Vectors, Vectors, Vectors],
    step: float | None,
    even: bool,
) -> Volume:
    row, column, normal = directions
    header = frames[0].header
    spacing = header.spacing_mm or (1.0, 1.0)
    planes = tuple(
        Plane(
            origin_mm=_triple(place),
            row=_triple(row),
            column=_triple(column),
            thickness_mm=frame.thickness,
            step_mm=step,
        )
        for frame, place in zip(frames, places, strict=True)
    )
    between = step if step is not None else frames[0].thickness
    affine = None
    if even and between is not None:
        affine = np.eye(4)
        affine[:3, 0], affine[:3, 1] = row * spacing[1], column * spacing[0]
        whole = places[-1] - places[0]
        affine[:3, 2] = whole / (len(places) - 1) if len(places) > 1 else normal * between
        affine[:3, 3] = places[0]
    shape = (len(frames), header.rows, header.columns)
    return Volume(planes, shape, spacing, step, affine)


def _triple(vector: Vectors) -> tuple[float, float, float]:
    # Whole micrometres and cosines to 1e-6: what headers say, and no noise of ours in a job's id.
    x, y, z = (round(float(value), 6) + 0.0 for value in vector)
    return x, y, z
