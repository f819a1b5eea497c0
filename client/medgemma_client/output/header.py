"""What both kinds of object say of themselves."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta, timezone
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from medgemma_client.images.dicom_stream import plain_uid
from medgemma_client.output.identity import take_over
from medgemma_client.output.original import Original

if TYPE_CHECKING:
    from medgemma_client.result import Result

PRODUCT = "medgemma-explainer"
SERIES = {"sc": 9001, "pm": 9002}
"""Numbers of the series of the first target, two for each; far from those of a scanner's."""

_SINGLE = frozenset(
    (
        "CTImageStorage",
        "MRImageStorage",
        "ComputedRadiographyImageStorage",
        "PositronEmissionTomographyImageStorage",
        "SecondaryCaptureImageStorage",
        "UltrasoundImageStorage",
    )
)
"""Classes of one frame."""


def uid(*parts: object) -> str:
    """A UID that follows from what it stands for: "2.25." and a name-based UUID (PS3.5 B.2)."""
    name = "/".join((PRODUCT, *map(str, parts)))
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, name).int}"


def study_of(result: Result, original: Original) -> str:
    """That of the source; one of the job's own where the source is no DICOM."""
    if original.header is None:
        return uid(result.job_id, "study")
    return str(original.header.StudyInstanceUID)


def arguments(result: Result, kind: str, originals: list[Original], target: int) -> dict[str, Any]:
    """What the classes of highdicom want to be told, but for patient and study."""
    first = originals[0]
    study = study_of(result, first)
    request = result.request
    found = [one.header.SOPInstanceUID if one.header else "" for one in originals]
    numbers = [one.number for one in originals]
    many = len(result.record.targets)
    which = f" {target + 1} of {many}" if many > 1 else ""
    return {
        # Storing a result twice gives one object, and all of a job's pictures are one series.
        "series_instance_uid": uid(result.job_id, kind, target, study),
        "sop_instance_uid": uid(result.job_id, kind, target, study, *found, *numbers, _version()),
        "series_number": SERIES[kind] + 2 * target,
        "instance_number": first.number + 1,
        "series_description": f"MedGemma relevancy{which} - not for diagnostic use",
        "manufacturer": PRODUCT,
        "manufacturer_model_name": _plain(request.model)[:64],
        "software_versions": (_version(), f"model revision {_plain(request.revision)}"[:64]),
        "device_serial_number": _plain(request.revision)[:64],
    }


def finish(result: Result, made: Any, original: Original, target: int, how: str) -> None:
    """Patient and study, time and derivation, in a data set that is otherwise complete."""
    header = original.header
    take_over(header, made)
    # Of a paired part of the body; empty where the source does not say.
    made.Laterality = None if header is None else header.get("Laterality")
    made.DerivationDescription = _derivation(result, target, how)
    made.ImageComments = _explained(result, target)
    zone = _zone(header)
    ended = result.record.finished_at.astimezone(zone)
    made.ContentDate = f"{ended:%Y%m%d}"
    made.ContentTime = f"{ended:%H%M%S}"
    # When this copy was made is nothing of the content: the same result is the same object.
    for keyword in ("InstanceCreationDate", "InstanceCreationTime"):
        del made[keyword]
    for equipment in made.ContributingEquipmentSequence:
        equipment.pop("ContributionDateTime", None)
    if zone is not None:
        made.TimezoneOffsetFromUTC = header.TimezoneOffsetFromUTC
    if header is not None and header.get("LossyImageCompression") == "01":
        for keyword in ("", "Ratio", "Method"):
            if (word := f"LossyImageCompression{keyword}") in header:
                made[word] = header[word]


def reference(original: Original) -> Any:
    """An item that refers to the source: its class, instance and, of several, its frame."""
    from pydicom.dataset import Dataset
    from pydicom.uid import UID

    item = Dataset()
    item.ReferencedSOPClassUID = UID(plain_uid(original.header.SOPClassUID))
    item.ReferencedSOPInstanceUID = plain_uid(original.header.SOPInstanceUID)
    # Some files have several frames against their own class, of which none may be referred to.
    if original.frame is not None and item.ReferencedSOPClassUID.keyword not in _SINGLE:
        item.ReferencedFrameNumber = original.frame + 1
    return item


def _derivation(result: Result, target: int, how: str) -> str:
    request, targets = result.request, result.record.targets
    text = (
        "Relevancy of image regions for what a language model said of the image: model "
        f"{request.model}, revision {request.revision}, method {request.options.method} "
        f"(version {request.method_version}), job {result.job_id}, target {target + 1} of "
        f"{len(targets)} ({targets[target].span.kind}). {how} "
        "It explains the model and is no finding. Research use, not for diagnostic use."
    )
    return _plain(text)[:1024]


def _explained(result: Result, target: int) -> str:
    span = result.record.targets[target].span
    return _plain(f"Explained: {span.text}")[:1000]


def _version() -> str:
    return f"{PRODUCT} {version(PRODUCT)}"[:64]


def _plain(text: str) -> str:
    """ASCII on one line: whatever character set the source has, it has these."""
    ascii_ = text.encode("ascii", "replace").decode()
    return "".join(sign if sign.isprintable() and sign != "\\" else " " for sign in ascii_)


def _zone(header: Any) -> timezone | None:
    """That of the source; None: the one of this machine."""
    said = "" if header is None else str(header.get("TimezoneOffsetFromUTC") or "")
    try:
        away: timedelta | None = datetime.strptime(said, "%z").utcoffset()
        return None if away is None else timezone(away)
    except ValueError:
        return None
