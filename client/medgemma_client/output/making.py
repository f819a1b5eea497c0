"""From a result and its source to a DICOM data set, of one kind or the other."""

from __future__ import annotations

import importlib.util
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from medgemma_client.output import parametric, secondary
from medgemma_client.output.original import OutputSource
from medgemma_client.output.quiet import building
from medgemma_tasks.errors import DicomSupportMissing, InvalidRequest, SourceMissing

if TYPE_CHECKING:
    from medgemma_client.result import Result

Kind: TypeAlias = Literal["sc", "pm"]
"""Secondary Capture: the overlay as a picture. Parametric Map: the relevancy as floats."""


def to_dicom(
    result: Result, kind: Kind, source: OutputSource | None, image: int, target: int
) -> Any:
    """A pydicom data set with its file meta information; the same arguments give the same UIDs.

    Args:
        source: The image again, as it was given when the question was asked; or the Study that all
            images of the question came from. Patient and study are taken from its header.
        image: Which image of the job, from 0. A Parametric Map from a Study holds all the slices
            that are of one series with it. The caller sees to it that it is there.
        target: Which target, likewise.

    Raises:
        SourceMissing: There is no source.
        SourceDiffers: Its pixels are not those that were explained.
        SourceIncomplete: Its header lacks the UIDs that another object refers to it by.
        NotPlaced: A Parametric Map of an image without a place in the patient.
        DicomSupportMissing: The packages that write DICOM are not installed.
        InvalidRequest: No such kind.
        InputError: The source cannot be read.
    """
    if kind not in ("sc", "pm"):
        raise InvalidRequest('The kind of a DICOM object is "sc" or "pm".')
    if source is None:
        raise SourceMissing(
            "A DICOM object names its patient and study, and these never travel with a question. "
            "Pass the image again: source=, a file or the Study that was asked about."
        )
    if importlib.util.find_spec("highdicom") is None:
        raise DicomSupportMissing(
            "The packages that write DICOM are not installed. "
            'Run: pip install "medgemma-explainer[dicom]"'
        )
    make = secondary.make if kind == "sc" else parametric.make
    return make(result, source, image, target)


def as_bytes(made: Any) -> bytes:
    """The file of a data set. Unlike ``save_as`` it quotes no value that the standard forbids, in
    a warning or a log."""
    buffer = BytesIO()
    with building():
        made.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
