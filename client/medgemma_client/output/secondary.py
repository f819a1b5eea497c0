"""Secondary Capture: the overlay as a picture, for every viewer and every source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medgemma_client.images.dicom_values import values_of
from medgemma_client.images.laterality import direction
from medgemma_client.output import header
from medgemma_client.output.original import Original, Originals, OutputSource
from medgemma_client.output.quiet import building
from medgemma_tasks.pictures import shown_size

if TYPE_CHECKING:
    from medgemma_client.result import Result

_ROWS = {"patient-right": "L", "patient-left": "R"}
_COLUMNS = {
    "patient-head": "F",
    "patient-feet": "H",
    "patient-front": "P",
    "patient-back": "A",
}


def make(result: Result, source: OutputSource, image: int, target: int) -> Any:
    """RGB, with margin and legend, as ``Result.overlay`` has it."""
    original = Originals(result.request, source).find(image)
    pixels = np.asarray(result.overlay(image, target).convert("RGB"))
    grid = result.record.images[image]
    with building():
        from highdicom.sc import SCImage
        from pydicom.uid import ExplicitVRLittleEndian

        made = SCImage(
            pixel_array=pixels,
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            patient_orientation=("L", "F"),  # any: it is replaced below
            study_instance_uid=header.study_of(result, original),
            transfer_syntax_uid=ExplicitVRLittleEndian,
            pixel_spacing=_spacing(original),
            **header.arguments(result, "sc", [original], target),
        )
        made.PatientOrientation = _orientation(original)
        how = (
            f"A grid of {grid.rows} x {grid.columns} values, spread over the image, as colour over "
            "it, with a legend in the margin."
        )
        header.finish(result, made, original, target, how)
        made.DateOfSecondaryCapture, made.TimeOfSecondaryCapture = (
            made.ContentDate,
            made.ContentTime,
        )
        _refer(made, original)
        if len(made.PixelData) % 2:
            made.PixelData += b"\0"
    return made


def _refer(made: Any, original: Original) -> None:
    if original.header is None:
        made.BurnedInAnnotation = "NO"
        return
    from highdicom.sr import CodedConcept
    from pydicom.sr.codedict import codes

    item = header.reference(original)
    purpose = codes.DCM.SourceImageForImageProcessingOperation
    item.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(purpose)]
    item.SpatialLocationsPreserved = "NO"  # it is enlarged, and has a margin
    made.SourceImageSequence = [item]
    # Sides and legend identify nobody. What the source's pixels show, the overlay shows; where the
    # source does not say whether that is a name, neither can this.
    said = original.header.get("BurnedInAnnotation")
    if said in ("YES", "NO"):
        made.BurnedInAnnotation = said


def _spacing(original: Original) -> tuple[float, float] | None:
    """Between the pixels of the picture, in mm: only where the source's is that of the patient."""
    if original.header is None:
        return None
    spacing = original.numbers("PixelMeasuresSequence", "PixelSpacing")
    if len(spacing) != 2 or min(spacing) <= 0:
        return None
    width, height = shown_size(original.ref.width, original.ref.height)
    return spacing[0] * original.ref.height / height, spacing[1] * original.ref.width / width


def _orientation(original: Original) -> list[str] | None:
    """Towards where rows and columns lead, as the letters beside the picture have it."""
    said = original.ref.attributes
    letters = []
    cosines = original.numbers("PlaneOrientationSequence", "ImageOrientationPatient")
    own = [] if original.header is None else values_of(original.header, "PatientOrientation")
    for axis, known in enumerate((_ROWS.get(said.left_of_image), _COLUMNS.get(said.top_of_image))):
        letters.append(known or direction(own, cosines, axis))
    return letters if all(letters) else None
