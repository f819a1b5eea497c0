"""Which side of the patient is at the left edge, and which end at the top edge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from medgemma_client.images import read_image
from medgemma_client.images.laterality import left_of_image, top_of_image
from medgemma_tasks.geometry import grid_square
from medgemma_tasks.zones import in_words, zone_shares

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


FEET_FIRST_UP = (1, 0, 0, 0, 0, 1)
TILTED_GANTRY = (1, 0, 0, 0, 0.94, -0.34)
BETWEEN = (1, 0, 0, 0, 1, -1)


@pytest.mark.parametrize(
    ("orientation", "cosines", "top"),
    [
        (("L", "F"), (), "patient-head"),
        (("L", "H"), (), "patient-feet"),
        (("L", "P"), (), "patient-front"),
        (("L", "A"), (), "patient-back"),
        (("P", "FL"), (), "patient-head"),
        (("A", "R"), (), "unknown"),
        (("L",), (), "unknown"),
        (("L", ""), (), "unknown"),
        (("L", "X"), (), "unknown"),
        ((), AXIAL, "patient-front"),
        ((), PRONE, "patient-back"),
        ((), CORONAL, "patient-head"),
        ((), SAGITTAL, "patient-head"),
        ((), FEET_FIRST_UP, "patient-feet"),
        ((), TILTED_GANTRY, "patient-front"),
        ((), BETWEEN, "unknown"),
        ((), (0, 0, -1, 1, 0, 0), "unknown"),
        ((), (), "unknown"),
        (("L", ""), AXIAL, "patient-front"),
        (("L", "P"), AXIAL, "patient-front"),
        (("L", "F"), AXIAL, "unknown"),
        (("L", "A"), AXIAL, "unknown"),
        (("L", "P"), BETWEEN, "unknown"),
        ((), (1, 0, 0, 0, 0, 0), "unknown"),
        ((), (1, 0, 0, 0, float("nan"), 0), "unknown"),
        ((), (1, 0, 0, 0, 1), "unknown"),
    ],
)
def test_the_top_follows_from_the_columns_and_is_unknown_without_or_against_evidence(
    orientation: Sequence[str], cosines: Sequence[float], top: str
) -> None:
    assert top_of_image(orientation, cosines) == top


@pytest.mark.parametrize(
    ("orientation", "cosines"), [(("L", "P"), CORONAL), (("L", "F"), AXIAL), (("L", ""), AXIAL)]
)
def test_what_is_wrong_with_one_edge_says_nothing_of_the_other(
    orientation: Sequence[str], cosines: Sequence[float]
) -> None:
    assert left_of_image(orientation, cosines) == "patient-right"


@pytest.mark.parametrize(
    ("name", "corner"),
    [
        ("77654033/CR1/6154", "patient right, upper third 100%"),  # neck, L\F
        ("77654033/CT2/17106", "patient right, front third 100%"),  # head, axial
        ("98892001/CT2N/6924", "patient right, upper third 100%"),  # scout from the front
        ("98892001/CT2N/6293", "image left, upper third 100%"),  # scout from the side
        ("98892003/MR1/4919", "image left, upper third 100%"),  # spine, sagittal
        ("98892003/MR700/4467", "image left, upper third 100%"),  # oblique by 49 degrees
    ],
)
def test_the_upper_left_corner_of_a_real_image_is_called_what_radiology_calls_it(
    name: str, corner: str, wheel_file: Callable[[str], Path]
) -> None:
    image = read_image(wheel_file(f"dicomdirtests/{name}"))
    size = image.pixels.size
    scores = np.zeros((16, 16), np.float32)
    scores[1, 1] = 1.0
    attributes = image.attributes
    found = zone_shares(
        scores,
        grid_square(*size, pad=False),
        size,
        left_of_image=attributes.left_of_image,
        top_of_image=attributes.top_of_image,
    )
    assert in_words(found) == corner
