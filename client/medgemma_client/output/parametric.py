"""Parametric Map: the relevancy as floats, in the place of the source in the patient.

On the pixels of the source and not on the grid: so every frame has exactly its source's size,
spacing, position and orientation. Viewers lay a map over an image only where these agree, and no
place of ours can then be wrong by a rounding. The grid as computed is in relevancy.npz.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medgemma_client.output import header
from medgemma_client.output.original import Original, Originals, OutputSource
from medgemma_client.output.quiet import building
from medgemma_client.study.volume import same_direction
from medgemma_tasks.errors import NotPlaced
from medgemma_tasks.geometry import spread

if TYPE_CHECKING:
    from medgemma_client.result import Result

_STAND_IN = "2.25."
"""Followed by its number, from 1: the UID of a frame while highdicom sorts the frames."""


def make(result: Result, source: OutputSource, image: int, target: int) -> Any:
    """float32, one frame for each image; in order along the normal."""
    originals = _together(result, source, image)
    values = np.stack([_values(result, one.number, target) for one in originals])
    grid = result.record.images[image]
    record = result.record.targets[target]
    with building():
        made = _map(result, originals, values, (record.low, record.high), target)
        how = (
            f"A grid of {grid.rows} x {grid.columns} values, spread over the pixels of the source "
            "by monotone cubics; no unit, not scaled."
        )
        header.finish(result, made, originals[0], target, how)
        _refer(made, originals)
    return made


def _together(result: Result, source: OutputSource, image: int) -> list[Original]:
    """The image, and of a study all that are of its series; each of them placed, and of several
    at one place the image itself, or the first: no viewer could show the others."""
    there = Originals(result.request, source)
    chosen = there.find(image)
    _check(chosen)
    places = {_position(chosen): chosen}
    for one in there.find_all(image):
        if _series(one) != _series(chosen):
            continue
        _check(one)
        if _like(one, chosen):
            places.setdefault(_position(one), one)
    return sorted(places.values(), key=lambda one: one.number)


def _series(one: Original) -> tuple[object, ...]:
    ds = one.header
    if ds is None:
        return ()
    return ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.get("FrameOfReferenceUID")


def _like(one: Original, other: Original) -> bool:
    """Whether both can be frames of one map: of one size and direction."""
    sizes = [(each.ref.width, each.ref.height, _spacing(each)) for each in (one, other)]
    return sizes[0] == sizes[1] and same_direction(_orientation(one), _orientation(other))


def _check(one: Original) -> None:
    lacks = "no DICOM header"
    if one.header is not None:
        needed = {
            "Frame of Reference": bool(one.header.get("FrameOfReferenceUID")),
            "position": len(_position(one)) == 3,
            "orientation": len(_orientation(one)) == 6,
            "pixel spacing": len(_spacing(one)) == 2,
        }
        lacks = ", ".join(f"no {what}" for what, there in needed.items() if not there)
    if lacks:
        raise NotPlaced(
            f"A Parametric Map lies in the patient, and image {one.number} does not: its source "
            f'has {lacks}. No radiograph has one. Use kind="sc", the overlay as a picture.',
            image=one.number,
        )


def _values(result: Result, number: int, target: int) -> NDArray[np.float32]:
    grid = result.record.images[number]
    scores = result.explanations[target].image_scores[number]
    return spread(scores, (grid.image.width, grid.image.height), grid.square)


def _map(
    result: Result,
    originals: list[Original],
    values: NDArray[np.float32],
    shown: tuple[float, float],
    target: int,
) -> Any:
    from highdicom import VOILUTTransformation
    from highdicom.pm import ParametricMap, RealWorldValueMapping
    from pydicom.sr.codedict import codes

    low, high = shown
    mapping = RealWorldValueMapping(
        lut_label="RELEVANCY",
        lut_explanation="Relevancy, as computed",
        unit=codes.UCUM.NoUnits,
        value_range=(float(values.min()), float(values.max())),
        slope=1.0,
        intercept=0.0,
        quantity_definition=codes.DCM.ClassActivation,
    )
    window = VOILUTTransformation(
        window_center=(low + high) / 2,
        window_width=high - low if high > low else 1.0,
        voi_lut_function="LINEAR_EXACT",  # the only one for widths below 1
    )
    made = ParametricMap(
        source_images=[
            _stand_in(one, number, _orientation(originals[0]))
            for number, one in enumerate(originals, 1)
        ],
        pixel_array=values,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[window],
        content_label="RELEVANCY",
        content_description="Relevancy of image regions, not for diagnostic use",
        content_qualification="RESEARCH",
        **header.arguments(result, "pm", originals, target),
    )
    organization = header.uid(made.SOPInstanceUID, "dimensions")
    for item in (*made.DimensionOrganizationSequence, *made.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization
    return made


def _stand_in(one: Original, number: int, orientation: tuple[float, ...]) -> Any:
    """A single CT slice in the place of a frame, whatever file that is kept in: highdicom copies
    its place, and patient and study come later, as they stand.

    orientation: of the whole map, since that of slices may differ in the last digit.
    """
    from pydicom.dataset import Dataset
    from pydicom.uid import CTImageStorage

    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, f"{_STAND_IN}{number}"
    ds.StudyInstanceUID = one.header.StudyInstanceUID
    ds.SeriesInstanceUID = one.header.SeriesInstanceUID
    ds.PatientID = ds.PatientName = ds.PatientBirthDate = ds.PatientSex = ""
    ds.AccessionNumber = ds.StudyID = ds.StudyDate = ds.StudyTime = ""
    ds.Rows, ds.Columns = one.ref.height, one.ref.width
    ds.FrameOfReferenceUID = one.header.FrameOfReferenceUID
    ds.PositionReferenceIndicator = one.header.get("PositionReferenceIndicator")
    ds.ImagePositionPatient = _decimal(_position(one))
    ds.ImageOrientationPatient = _decimal(orientation)
    ds.PixelSpacing = _decimal(_spacing(one))
    thickness = one.numbers("PixelMeasuresSequence", "SliceThickness")
    ds.SliceThickness = _decimal(thickness)[0] if thickness and thickness[0] > 0 else None
    return ds


def _refer(made: Any, originals: list[Original]) -> None:
    """The true sources in place of the stand-ins, for each frame and for the whole."""
    from highdicom.sr import CodedConcept
    from pydicom.dataset import Dataset
    from pydicom.sr.codedict import codes

    purpose = CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)
    for frame in made.PerFrameFunctionalGroupsSequence:
        for item in frame.DerivationImageSequence[0].SourceImageSequence:
            number = int(item.ReferencedSOPInstanceUID.removeprefix(_STAND_IN)) - 1
            item.update(header.reference(originals[number]))
            item.PurposeOfReferenceCodeSequence = [purpose]
    whole: dict[str, Any] = {}
    for one in originals:
        item = header.reference(one)
        if "ReferencedFrameNumber" in item:
            del item.ReferencedFrameNumber
        whole[item.ReferencedSOPInstanceUID] = item
    series = Dataset()
    series.SeriesInstanceUID = originals[0].header.SeriesInstanceUID
    series.ReferencedInstanceSequence = list(whole.values())
    made.ReferencedSeriesSequence = [series]
    made.SourceImageSequence = list(whole.values())


def _position(one: Original) -> tuple[float, ...]:
    return one.numbers("PlanePositionSequence", "ImagePositionPatient")


def _orientation(one: Original) -> tuple[float, ...]:
    return one.numbers("PlaneOrientationSequence", "ImageOrientationPatient")


def _spacing(one: Original) -> tuple[float, ...]:
    return one.numbers("PixelMeasuresSequence", "PixelSpacing")


def _decimal(numbers: tuple[float, ...]) -> list[Any]:
    """As decimal strings of 16 characters."""
    from pydicom.valuerep import DS

    return [DS(number, auto_format=True) for number in numbers]
