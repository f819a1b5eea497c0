"""The maps of a volume's slices as NIfTI: float32, one voxel a cell, in the patient's millimetres.

A voxel is a cell of the model's grid, not a pixel: nothing is interpolated within a slice, and no
boundary is drawn that the model did not draw. NIfTI counts x to the right and y to the front where
DICOM counts to the left and back, so both change their sign.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medgemma_client.volume.places import place_of
from medgemma_tasks.errors import GeometryContradictory, GeometryMissing, InvalidRequest
from medgemma_tasks.geometry import cell_centre
from medgemma_tasks.models import ImageGrid

EVEN = 0.02
"""Part of a step by which the places of slices may differ and still count as even."""

DESCRIPTION = "MedGemma relevancy, not for diagnosis"

Floats = NDArray[np.float64]


def encode(scores: NDArray[np.float32], images: Sequence[ImageGrid]) -> bytes:
    """``.nii.gz`` of maps, float32 (n, rows, columns), of as many slices.

    Slices at even distances are taken as they are; of others (a sampled series shows every third
    or fourth) the values are put in between in a straight line, at the smallest distance. Raises
    GeometryMissing, GeometryContradictory, and InvalidRequest where nibabel is not installed.
    """
    try:
        import nibabel
    except ImportError:
        raise InvalidRequest(
            "NIfTI needs nibabel: pip install 'medgemma-explainer[dicom]'."
        ) from None
    values, affine = volume_of(scores, images)
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    made = nibabel.Nifti1Image(values, flip @ affine)
    made.header.set_xyzt_units("mm")
    made.header["descrip"] = DESCRIPTION.encode()
    made.set_sform(flip @ affine, code="scanner")
    made.set_qform(flip @ affine, code="scanner")
    import gzip

    return gzip.compress(made.to_bytes(), compresslevel=6, mtime=0)


def volume_of(
    scores: NDArray[np.float32], images: Sequence[ImageGrid]
) -> tuple[NDArray[np.float32], Floats]:
    """Values, float32 (columns, rows, slices), and the affine (4, 4) from there to mm, LPS."""
    origins, right, down = _corners(images)
    if len(images) == 1:
        plane = images[0].image.attributes.plane
        thick = (plane.thickness_mm or plane.step_mm if plane else None) or 1.0
        normal = np.cross(right, down)
        step = thick * normal / np.linalg.norm(normal)
    else:
        origins, scores, step = _even(origins, scores)
    affine = np.eye(4)
    affine[:3] = np.stack([right, down, step, origins[0]], axis=1)
    return np.ascontiguousarray(scores.transpose(2, 1, 0)), affine


def _corners(images: Sequence[ImageGrid]) -> tuple[Floats, Floats, Floats]:
    """Of each slice the centre of the first cell (n, 3), and the steps to the next cell in a row
    and in a column, which all slices share."""
    places = []
    for grid in images:
        size = (grid.rows, grid.columns)
        cells = [(0, 0), (0, grid.columns - 1), (grid.rows - 1, 0)]
        three = [place_of(grid, *cell_centre(cell, size, grid.square)) for cell in cells]
        if any(place is None for place in three):
            raise GeometryMissing(
                "A volume needs images that say where they lie in the patient: slices of a CT, MR "
                "or the like, submitted as a study."
            )
        places.append(three)
    corners = np.array(places, np.float64)
    right = (corners[:, 1] - corners[:, 0]) / max(images[0].columns - 1, 1)
    down = (corners[:, 2] - corners[:, 0]) / max(images[0].rows - 1, 1)
    for steps in (right, down):
        if np.abs(steps - steps[0]).max() > EVEN * np.linalg.norm(steps[0]):
            raise GeometryContradictory(
                "The images do not lie side by side: their directions or sizes differ, so they "
                "are no one volume."
            )
    return corners[:, 0], right[0], down[0]


def _even(
    origins: Floats, scores: NDArray[np.float32]
) -> tuple[Floats, NDArray[np.float32], Floats]:
    """Slices at even distances along the line from the first to the last."""
    whole = origins[-1] - origins[0]
    length = float(np.linalg.norm(whole))
    along = (origins - origins[0]) @ whole / length if length else np.zeros(len(origins))
    steps = np.diff(along)
    aside = origins - origins[0] - along[:, None] * whole / (length or 1.0)
    if not length or steps.min() <= 0 or np.abs(aside).max() > 0.5 * steps.min():
        raise GeometryContradictory(
            "The slices do not lie one behind the other on a line, so they are no one volume."
        )
    if np.abs(steps - steps.mean()).max() <= EVEN * steps.mean():
        return origins, scores, whole / (len(origins) - 1)
    count = round(length / float(steps.min())) + 1
    wanted = np.linspace(0.0, length, count)
    after = np.clip(np.searchsorted(along, wanted), 1, len(along) - 1)
    part = ((wanted - along[after - 1]) / steps[after - 1])[:, None, None]
    between = scores[after - 1] * (1 - part) + scores[after] * part
    return origins, between.astype(np.float32), whole / (count - 1)
