"""--dicom: what is written beside the other files of a result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest

from medgemma_cli.dicom import write
from medgemma_cli.jobs import check_files
from medgemma_client.study import read_study
from medgemma_tasks.errors import InvalidRequest
from tests.client.output.conftest import (
    Ask,
    ask,
    boto_session,
    client,
    ledger,
    live,
    make_dicom,
    published,
    redis_fake,
    run,
    settings,
    store,
    wheel_file,
)
from tests.client.output.reading import radiograph, thorax
from tests.client.study.phantom import Scan
from tests.parts import picture

__all__ = [
    "ask", "boto_session", "client", "ledger", "live", "make_dicom", "published", "redis_fake",
    "run", "settings", "store", "wheel_file",
]  # fmt: skip


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_is_in_the_patient_becomes_a_picture_and_a_map(
    ask: Ask, wheel_file: Callable[[str], Path], tmp_path: Path
) -> None:
    source = wheel_file("CT_small.dcm")
    written = write(ask(source), [source], tmp_path)
    assert written == ["explanation-sc-0.dcm", "explanation-pm.dcm"]
    assert names(tmp_path) == set(written)
    for name in written:
        assert pydicom.dcmread(tmp_path / name).PatientID == "1CT1"


def test_of_many_images_each_that_is_dicom_is_written(
    ask: Ask, wheel_file: Callable[[str], Path], tmp_path: Path
) -> None:
    drawn = tmp_path / "drawn.png"
    picture().save(drawn)
    sources = [drawn, radiograph(), wheel_file("CT_small.dcm"), wheel_file("MR_small.dcm")]
    out = tmp_path / "out"
    out.mkdir()
    write(ask(sources), sources, out)
    assert names(out) == {
        *(f"explanation-sc-{k}.dcm" for k in (1, 2, 3)),
        *(f"explanation-pm-{k}.dcm" for k in (2, 3)),
    }


def test_the_slices_of_a_study_share_one_map(ask: Ask, tmp_path: Path) -> None:
    study = read_study(thorax())
    write(ask(study), study, tmp_path)
    assert names(tmp_path) == {
        "explanation-pm.dcm",
        *(f"explanation-sc-{k}.dcm" for k in range(5)),
    }
    assert pydicom.dcmread(tmp_path / "explanation-pm.dcm").NumberOfFrames == 5


def test_a_pair_has_a_map_of_each_of_its_studies(ask: Ask, tmp_path: Path) -> None:
    earlier = Scan(slices=4, tags={"StudyInstanceUID": "1.2.8", "SeriesInstanceUID": "1.2.8.1"})
    study = read_study(Scan(slices=3).files(), prior=earlier.files())
    write(ask(study), study, tmp_path)
    before = pydicom.dcmread(tmp_path / "explanation-pm-0.dcm")
    after = pydicom.dcmread(tmp_path / "explanation-pm-4.dcm")
    assert (before.StudyInstanceUID, before.NumberOfFrames) == ("1.2.8", 4)
    assert (after.StudyInstanceUID, after.NumberOfFrames) == ("1.2.3", 3)
    assert before.SeriesInstanceUID != after.SeriesInstanceUID


def test_no_object_of_an_earlier_job_stays(ask: Ask, tmp_path: Path) -> None:
    for name in ("explanation-sc-7.dcm", "explanation-pm-3.dcm", "explanation-mine.dcm"):
        (tmp_path / name).write_bytes(b"x")
    source = radiograph()
    write(ask(source), [source], tmp_path)
    assert names(tmp_path) == {"explanation-sc-0.dcm", "explanation-mine.dcm"}


@pytest.mark.parametrize("flag", ["--dicom", "--nifti"])
def test_files_are_asked_for_with_a_folder_and_for_a_result(flag: str) -> None:
    check_files(flag, False, None, False)
    check_files(flag, True, Path("out"), True)
    for out, wait in ((None, True), (Path("out"), False)):
        with pytest.raises(InvalidRequest, match=f"{flag}.*--out"):
            check_files(flag, True, out, wait)
