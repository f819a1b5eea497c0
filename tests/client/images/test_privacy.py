"""Nothing that identifies a patient leaves: not in pixels, attributes, errors, logs or warnings."""

from __future__ import annotations

import logging
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from medgemma_client.images import read_image
from medgemma_tasks.errors import InputError

Find = Callable[[str], Path]
Make = Callable[..., bytes]

CANARY = "CANARY"
IDENTIFIERS = {
    "PatientName": "CANARY^NAME",
    "PatientID": "CANARYID",
    "AccessionNumber": "CANARYACC",
    "PatientBirthDate": "19010203",
    "SOPInstanceUID": "1.2.3.19010203.1",
    "StudyInstanceUID": "1.2.3.19010203.2",
    "SeriesInstanceUID": "1.2.3.19010203.3",
    "FrameOfReferenceUID": "1.2.3.19010203.4",
    "InstitutionName": "CANARY HOSPITAL",
    "StudyDescription": "CANARY STUDY",
    "ImageComments": "CANARY COMMENT",
    "Modality": "CANARYMODALITY",
    "PatientOrientation": ["CANARY", "CANARY"],
    "WindowCenterWidthExplanation": "CANARY WINDOW",
}


def clean(text: str) -> bool:
    return CANARY not in text.upper() and "19010203" not in text


@contextmanager
def watched(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Everything that reaches logs at any level, or warnings, must be clean."""
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    assert clean(caplog.text)
    assert all(clean(str(warning.message)) for warning in caught)


def marked(make_dicom: Make, **more: object) -> bytes:
    """A DICOM file with a canary wherever one can stand."""
    ds = pydicom.dcmread(BytesIO(make_dicom(**{**IDENTIFIERS, **more})))
    block = ds.private_block(0x0011, "CANARY CREATOR", create=True)
    block.add_new(1, "LO", "CANARY PRIVATE")
    ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3.19010203.1"
    buffer = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds.save_as(buffer)
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def _values_need_not_be_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pydicom.config.settings, "writing_validation_mode", pydicom.config.IGNORE)


def test_a_dicom_file_leaves_pixels_and_technical_attributes_only(
    make_dicom: Make, caplog: pytest.LogCaptureFixture
) -> None:
    data = marked(make_dicom)
    assert CANARY.encode() in data
    with watched(caplog):
        source = read_image(data)
    assert clean(source.png().decode("latin1"))
    assert clean(source.attributes.model_dump_json())
    assert clean(repr(source))
    assert source.attributes.modality is None


@pytest.mark.parametrize(
    "damage",
    [
        {"PixelData": None},
        {"Rows": 0},
        {"Rows": 9},
        {"Columns": 60_000, "Rows": 60_000},
        {"PhotometricInterpretation": "CANARY"},
        {"NumberOfFrames": "7"},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11"},
    ],
)
def test_errors_logs_and_warnings_quote_nothing_of_a_dicom_file(
    damage: dict[str, object], make_dicom: Make, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    path = tmp_path / "CANARY^NAME.dcm"
    path.write_bytes(marked(make_dicom, **damage))
    with watched(caplog), pytest.raises(InputError) as caught:
        read_image(path)
    told = "".join(traceback.format_exception(caught.value, chain=True))
    assert clean(f"{caught.value!r} {caught.value} {caught.value.details}")
    # The last line of the trace is the message; source lines of this test may name the canary.
    assert clean(told.splitlines()[-1])
    assert "During handling" not in told


def test_a_value_that_pydicom_would_quote_in_a_warning_is_kept_quiet(
    wheel_file: Find, caplog: pytest.LogCaptureFixture
) -> None:
    data = wheel_file("badVR.dcm").read_bytes().replace(b"1A", b"1Z")
    with watched(caplog), pytest.raises(InputError):
        read_image(data)
    assert "1Z" not in caplog.text


def test_other_threads_logs_pass_while_a_file_is_read() -> None:
    from threading import Thread

    from medgemma_tasks.quiet import without_logs

    logger, seen = logging.getLogger("pydicom.test"), []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    with without_logs("pydicom.test"):
        logger.error("ours")
        other = Thread(target=logger.error, args=("theirs",))
        other.start()
        other.join()
    logger.error("later")
    logger.removeHandler(handler)
    assert seen == ["theirs", "later"]


def _raster(kind: str) -> bytes:
    image = Image.fromarray(np.zeros((4, 4), np.uint8))
    exif = Image.Exif()
    exif[0x010E] = "CANARY DESCRIPTION"
    options: dict[str, object] = {"exif": exif, "icc_profile": b"CANARY PROFILE"}
    if kind == "PNG":
        text = PngInfo()
        text.add_text("Patient", "CANARY")
        text.add_itxt("Patient", "CANARY", zip=True)
        options["pnginfo"] = text
    if kind == "JPEG":
        options["comment"] = b"CANARY COMMENT"
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_a_raster_file_leaves_its_pixels_only(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    data = _raster(kind)
    assert CANARY.encode() in data
    opened = Image.open(BytesIO(data))
    caplog.clear()  # opening it was the caller's, and so is what Pillow logged of it
    with watched(caplog):
        sources = [read_image(data), read_image(opened)]
    for source in sources:
        assert clean(source.png().decode("latin1"))
        assert not source.pixels.info
        assert not source.pixels.getexif()
        assert clean(source.attributes.model_dump_json())


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_errors_quote_nothing_of_a_raster_file(
    kind: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    path = tmp_path / "CANARY^NAME.png"
    data = _raster(kind)
    path.write_bytes(data[: len(data) * 9 // 10])
    with watched(caplog), pytest.raises(InputError) as caught:
        read_image(path)
    assert clean(f"{caught.value!r} {caught.value.details}")
    assert caught.value.__suppress_context__
