"""Which side of the patient the left edge of a DICOM image shows, and which end the top edge.

DICOM's axes point to the patient's left (x), back (y) and head (z) (PS3.3 C.7.6.2.1.1).
PatientOrientation names the direction of the rows, then that of the columns, by where they lead
(C.7.6.1.1.1). Rows that run towards the patient's left therefore begin at the patient's right, and
columns that run towards the feet begin at the head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

Side = Literal["patient-right", "patient-left", "unknown"]
Top = Literal["patient-head", "patient-feet", "patient-front", "patient-back", "unknown"]

_DOMINANT = math.cos(math.radians(45))
"""Least part of a direction along one axis at which the direction counts as that axis's."""

_AXES = (("L", "R"), ("P", "A"), ("H", "F"))
"""Towards where x, y and z run: forwards, backwards."""


def left_of_image(orientation: Sequence[str], cosines: Sequence[float]) -> Side:
    """The side at the image's left edge; "unknown" without evidence, or where it contradicts.

    Args:
        orientation: PatientOrientation, such as ("L", "F"); empty where absent.
        cosines: ImageOrientationPatient, six direction cosines; empty where absent.
    """
    begins: dict[str, Side] = {"L": "patient-right", "R": "patient-left"}
    return begins.get(direction(orientation, cosines, 0), "unknown")


def top_of_image(orientation: Sequence[str], cosines: Sequence[float]) -> Top:
    """The end of the patient at the image's top edge, by the same rules and arguments."""
    begins: dict[str, Top] = {
        "F": "patient-head",
        "H": "patient-feet",
        "P": "patient-front",
        "A": "patient-back",
    }
    return begins.get(direction(orientation, cosines, 1), "unknown")


def direction(orientation: Sequence[str], cosines: Sequence[float], axis: int) -> str:
    """Where rows (axis 0) or columns (1) lead: L, R, A, P, H or F; "" if unknown.

    A value of PatientOrientation may have several letters; the first is the main direction.
    """
    said = {value[0] for value in orientation[axis : axis + 1] if value}
    if len(cosines) == 6:
        said.add(_of_cosines(cosines[3 * axis : 3 * axis + 3]))
    return said.pop() if len(said) == 1 else ""


def _of_cosines(cosines: Sequence[float]) -> str:
    length = math.hypot(*cosines)
    if not (math.isfinite(length) and length > 0):
        return ""
    main = max(range(3), key=lambda axis: abs(cosines[axis]))
    # At 45 degrees and beyond between two axes neither is the main one.
    if abs(cosines[main]) / length <= _DOMINANT:
        return ""
    forwards, backwards = _AXES[main]
    return forwards if cosines[main] > 0 else backwards
