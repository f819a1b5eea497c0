"""Which side of the patient the left edge of a DICOM image shows.

DICOM's x axis points to the patient's left (PS3.3 C.7.6.2.1.1). Rows that run towards the
patient's left therefore begin at the patient's right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

Side = Literal["patient-right", "patient-left", "unknown"]

_DOMINANT = math.cos(math.radians(45))
"""Least |x| of the row direction at which an image still counts as axial or coronal."""


def left_of_image(orientation: Sequence[str], cosines: Sequence[float]) -> Side:
    """The side at the image's left edge; "unknown" without evidence, or where it contradicts.

    Args:
        orientation: PatientOrientation, such as ("L", "F"); empty where absent.
        cosines: ImageOrientationPatient, six direction cosines; empty where absent.
    """
    said: set[Side] = set()
    if orientation and orientation[0]:
        said.add(_of_letter(orientation[0][0]))
    if len(cosines) == 6:
        said.add(_of_row(cosines[:3]))
    return said.pop() if len(said) == 1 else "unknown"


def _of_letter(letter: str) -> Side:
    """By the main direction of the rows: L(eft) or R(ight); A, P, H and F run across."""
    if letter == "L":
        return "patient-right"
    return "patient-left" if letter == "R" else "unknown"


def _of_row(row: Sequence[float]) -> Side:
    length = math.hypot(*row)
    if not (math.isfinite(length) and length > 0):
        return "unknown"
    x = row[0] / length
    if abs(x) < _DOMINANT:
        return "unknown"
    return "patient-right" if x > 0 else "patient-left"
