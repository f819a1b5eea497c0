"""Nothing that identifies a patient leaves a study but the pixels themselves: not in attributes,
notes, prompts, errors, logs or warnings."""

from __future__ import annotations

import traceback
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medgemma_client.study import Study, read_study
from medgemma_tasks.errors import MedGemmaError
from tests.client.images.test_privacy import IDENTIFIERS, clean, watched
from tests.client.study.phantom import ct_slice

Find = Callable[[str], Path]

NUMBERS = ("InstanceNumber", "SeriesNumber", "AcquisitionNumber")


def marked(k: int, **tags: Any) -> bytes:
    """A slice with a canary wherever one can stand; some of them where they make it damaged."""
    said = {**IDENTIFIERS, "Modality": "CT", "PatientOrientation": None}
    said |= {"ViewPosition": "CANARYVIEW", "SeriesDescription": "CANARY SERIES"}
    said |= {"ImageType": ["ORIGINAL", "PRIMARY", "CANARY"], "BurnedInAnnotation": "CANARY"}
    said |= {"SOPInstanceUID": f"1.2.3.19010203.{k}", **tags}
    said = {keyword: value for keyword, value in said.items() if value is not None}
    return ct_slice(np.zeros((4, 4)), position=(0, 0, k), number=k + 1, **said)


def told(study: Study) -> str:
    said = [*study.notes, repr(study), str(study.prompt("What?"))]
    said += [repr(study.origins), repr(study.volume), str(study.modality)]
    said += [image.attributes.model_dump_json() for image in study.images]
    return "\n".join(said)


def outcome(source: Any, gaps: Any) -> str:
    """All that is told of a study, or of why it cannot be read."""
    try:
        return told(read_study(source, gaps=gaps))
    except MedGemmaError as error:
        return "".join(traceback.format_exception(error)) + str(error.details)


@pytest.fixture
def places(tmp_path: Path) -> list[Any]:
    """The same slices as a folder, a zip file and a list, with canaries in all names."""
    root = tmp_path / "CANARY^NAME"
    root.mkdir()
    files = [marked(k) for k in range(3)]
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for k, data in enumerate(files):
            (root / f"CANARY{k}.dcm").write_bytes(data)
            archive.writestr(f"CANARY/{k}.dcm", data)
    return [root, buffer.getvalue(), files]


def test_a_study_tells_nothing_of_its_patient(
    places: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    with watched(caplog):
        for place in places:
            study = read_study(place)
            assert len(study.images) == 3
            assert clean(told(study))


@pytest.mark.parametrize(
    "tags",
    [
        {"Modality": "CANARYMODALITY"},
        {"PatientOrientation": ["CANARY", "CANARY"]},
        {"ImageType": ["CANARY"]},
        {"PhotometricInterpretation": "CANARY"},
        {"PixelSpacing": None},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1"},
    ],
)
@pytest.mark.parametrize("gaps", ["refuse", "report"])
def test_what_is_wrong_with_a_study_tells_nothing_of_its_patient(
    tags: dict[str, Any], gaps: Any, places: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    root = places[0]
    (root / "CANARY9.dcm").write_bytes(marked(9, **tags))
    with watched(caplog):
        assert clean(outcome(root, gaps))


@pytest.mark.parametrize("keyword", [*NUMBERS, "ImagePositionPatient", "SliceThickness"])
def test_a_name_where_a_number_belongs_is_not_quoted(
    keyword: str, caplog: pytest.LogCaptureFixture
) -> None:
    files = [marked(k, SliceThickness="1.234567", AcquisitionNumber="7654321") for k in range(2)]
    number = {"InstanceNumber": b"IS\x02\0001 ", "SeriesNumber": b"IS\x02\0001 "}
    old = {
        **number,
        "AcquisitionNumber": b"7654321",
        "SliceThickness": b"1.234567",
        "ImagePositionPatient": b"0.0\\0.0",
    }[keyword]
    new = (b"CANARY" * 3)[: len(old)] if b"\0" not in old else b"IS\x02\0CA"
    files[1] = files[1].replace(old, new, 1)
    with watched(caplog):
        assert clean(outcome(files, "report"))


def test_a_path_is_not_told_where_nothing_can_be_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "CANARY"
    root.mkdir()
    (root / "CANARY.zip").write_bytes(b"PK\3\4CANARY")
    with watched(caplog):
        for place in (root, root / "CANARY.zip", root / "CANARY.dcm", [root / "nowhere"]):
            with pytest.raises(MedGemmaError) as error:
                read_study(place)
            assert clean("".join(traceback.format_exception(error.value)).replace(str(root), ""))
            assert clean(error.value.message)
