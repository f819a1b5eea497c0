"""The source given again, and what of it goes where."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import fakeredis
import pydicom
import pytest

from medgemma_client.output import as_bytes
from medgemma_client.study import read_study
from medgemma_tasks.errors import (
    InvalidRequest,
    MedGemmaError,
    SourceDiffers,
    SourceIncomplete,
    SourceMissing,
)
from medgemma_tasks.ledger import Ledger
from tests.client.images.conftest import Make
from tests.client.output.conftest import Ask
from tests.client.output.reading import radiograph, thorax
from tests.client.study.phantom import Scan, written
from tests.parts import picture

CANARIES = {
    "PatientName": "Canary^Name",
    "PatientID": "CANARY-ID",
    "PatientBirthDate": "19011231",
    "PatientSex": "CANARYSEX",  # forbidden, and taken over as it stands
    "AccessionNumber": "CANARYACC",
    "StudyDate": "CANARYDATE",
    "StudyID": "CANARYSTUDY",
    "ReferringPhysicianName": "Canary^Doctor",
    "PatientAge": "CANARYAGE",
}


def with_canaries(path: Path) -> bytes:
    ds = pydicom.dcmread(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for keyword, value in CANARIES.items():
            setattr(ds, keyword, value)
        ds.InstitutionName = "CANARY-HOSPITAL"
        return written(ds, ds.file_meta.TransferSyntaxUID)


def test_without_a_source_it_is_said_why_there_must_be_one(ask: Ask) -> None:
    with pytest.raises(SourceMissing, match="never travel"):
        ask(picture()).to_dicom()


def test_another_image_is_refused(
    ask: Ask, wheel_file: Callable[[str], Path], make_dicom: Make
) -> None:
    result = ask(wheel_file("CT_small.dcm"))
    for other in (wheel_file("MR_small.dcm"), picture(), read_study(thorax())):
        for kind in ("sc", "pm"):
            with pytest.raises(SourceDiffers):
                result.to_dicom(kind, other)
    study = read_study(thorax())
    asked = ask(study)
    for other in (
        read_study(thorax(), window=(40, 400)),
        read_study(thorax()[:4]),
        thorax()[0],  # as its header has it shown, and not as the model saw it
    ):
        with pytest.raises(SourceDiffers, match="study"):
            asked.to_dicom("pm", other, image=4)


def test_slices_of_the_same_pixels_are_told_apart_by_their_place(ask: Ask, tmp_path: Path) -> None:
    """All black, as slices beyond the head are."""
    for number, data in enumerate(Scan(cube=(500, 500, 500), slices=3).files()):
        (tmp_path / f"{number}.dcm").write_bytes(data)
    study = read_study(tmp_path)
    result = ask(study)
    assert result.to_dicom("pm", study).NumberOfFrames == 3
    moved = Scan(cube=(500, 500, 500), slices=3, centre=(5, -7, 90)).slice_(1)
    (tmp_path / "1.dcm").write_bytes(moved)
    with pytest.raises(SourceDiffers, match="changed"):
        result.to_dicom("pm", study)


def test_a_file_that_cannot_be_referred_to_is_refused(ask: Ask, make_dicom: Make) -> None:
    source = make_dicom()
    with pytest.raises(SourceIncomplete, match="StudyInstanceUID"):
        ask(source).to_dicom("sc", source)


def test_there_are_two_kinds_and_as_many_images_and_targets_as_there_are(ask: Ask) -> None:
    result = ask(picture())
    for kind, image, target in (("seg", 0, 0), ("sc", 1, 0), ("pm", 0, 1), ("sc", -1, 0)):
        with pytest.raises(InvalidRequest):
            result.to_dicom(kind, picture(), image, target)


@pytest.mark.parametrize("name", ["CT_small.dcm", "radiograph"])
def test_whose_image_it_is_stands_in_the_object_and_nowhere_else(
    ask: Ask,
    wheel_file: Callable[[str], Path],
    ledger: Ledger,
    redis_fake: fakeredis.FakeRedis,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    source = with_canaries(radiograph() if name == "radiograph" else wheel_file(name))
    caplog.clear()  # of what pydicom said when it wrote them
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        result = ask(source)
        made = [result.to_dicom("sc", source)]
        if name != "radiograph":
            made.append(result.to_dicom("pm", source))
        files = [as_bytes(one) for one in made]
        for kind in ("sc", "pm"):
            try:
                result.to_dicom(kind, picture())
            except MedGemmaError as error:
                quoted = f"{error} {error.details}"
    told = [caplog.text, quoted, *map(str, warned), *capsys.readouterr()]
    header = pydicom.dcmread(BytesIO(source))
    uids = [str(header[word].value) for word in ("StudyInstanceUID", "SOPInstanceUID")]
    for one in map(pydicom.dcmread, map(BytesIO, files)):
        for keyword, value in CANARIES.items():
            assert str(one[keyword].value) == value
        assert "CANARY-HOSPITAL" not in str(one)
    store = ledger.store
    listed = list(store.keys(""))
    told += [*listed, *(str(store.get(key)) for key in listed)]
    told += [f"{key} {redis_fake.dump(key)}" for key in redis_fake.scan_iter()]
    for canary in (*CANARIES.values(), *uids):
        assert not any(canary in text for text in told)
    assert len(listed) > 3


NAMES = {
    "ISO_IR 192": "Müller^Jörg",
    "ISO_IR 100": "Müller^Jörg",
    "\\ISO 2022 IR 87": "Yamada^Tarou=山田^太郎",
}


@pytest.mark.parametrize("charset", NAMES)
def test_a_name_of_any_alphabet_stays_as_it_is(ask: Ask, make_dicom: Make, charset: str) -> None:
    source = make_dicom(
        SpecificCharacterSet=charset.split("\\"),
        PatientName=NAMES[charset],
        StudyInstanceUID="1.2.4",
        SeriesInstanceUID="1.2.5",
        SOPInstanceUID="1.2.6",
        FrameOfReferenceUID="1.2.7",
        ImagePositionPatient=[0, 0, 0],
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        PixelSpacing=[1, 1],
    )
    result = ask(source)
    for kind in ("sc", "pm"):
        made = pydicom.dcmread(BytesIO(as_bytes(result.to_dicom(kind, source))))
        assert str(made.PatientName) == NAMES[charset]
