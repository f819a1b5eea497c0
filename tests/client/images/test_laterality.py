"""Which side of the patient is at the left edge."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from medgemma_client.images.laterality import left_of_image

AXIAL = (1, 0, 0, 0, 1, 0)
PRONE = (-1, 0, 0, 0, -1, 0)
CORONAL = (1, 0, 0, 0, 0, -1)
SAGITTAL = (0, 1, 0, 0, 0, -1)
TILTED = (0.9, 0.3, 0.3, 0, 0.7, -0.7)
OBLIQUE = (0.69, 0.72, 0, 0, 0, -1)


@pytest.mark.parametrize(
    ("orientation", "cosines", "side"),
    [
        (("L", "F"), (), "patient-right"),
        (("R", "F"), (), "patient-left"),
        (("LA", "F"), (), "patient-right"),
        (("A", "F"), (), "unknown"),
        ((), AXIAL, "patient-right"),
        ((), PRONE, "patient-left"),
        ((), CORONAL, "patient-right"),
        ((), TILTED, "patient-right"),
        ((), SAGITTAL, "unknown"),
        ((), OBLIQUE, "unknown"),
        ((), (), "unknown"),
        (("", ""), (), "unknown"),
        (("", ""), AXIAL, "patient-right"),
        (("L", "P"), AXIAL, "patient-right"),
        (("R", "P"), AXIAL, "unknown"),
        (("A", "F"), AXIAL, "unknown"),
        ((), (0, 0, 0, 0, 0, 0), "unknown"),
        ((), (float("nan"), 0, 0, 0, 1, 0), "unknown"),
        ((), (1, 0, 0), "unknown"),
    ],
)
def test_the_side_follows_from_the_rows_and_is_unknown_without_or_against_evidence(
    orientation: Sequence[str], cosines: Sequence[float], side: str
) -> None:
    assert left_of_image(orientation, cosines) == side
