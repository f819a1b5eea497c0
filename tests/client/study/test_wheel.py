"""Every file with pixels inside the pydicom wheel: refused by its code, or shown as dcmtk shows it.

dcmtk shares no code with what the reader uses. Grey files are compared through several windows of
256 values, in which neither of the two has anything to round.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_files
from pydicom.uid import UID, JPEGLSLossless, JPEGLSNearLossless

from medgemma_client.study import Study, read_study
from medgemma_tasks.errors import MedGemmaError
from tests.tools import tool

REFUSED = {
    "JPEG-lossy.dcm": "dicom_undecodable",  # 12 bits: no free decoder
    "JPGExtended.dcm": "dicom_undecodable",
    "JPEG2000-embedded-sequence-delimiter.dcm": "dicom_undecodable",
    "meta_missing_tsyntax.dcm": "dicom_undecodable",
    "nested_priv_SQ.dcm": "dicom_undecodable",
    "MR_truncated.dcm": "truncated_image",
    "badVR.dcm": "dicom_error",
    "liver_1frame.dcm": "dicom_not_an_image",  # SEG
    "liver_expb_1frame.dcm": "dicom_not_an_image",
    "rtdose.dcm": "dicom_not_an_image",
    "rtdose_1frame.dcm": "dicom_not_an_image",
    "rtdose_expb.dcm": "dicom_not_an_image",
    "rtdose_expb_1frame.dcm": "dicom_not_an_image",
    "rtdose_rle.dcm": "dicom_not_an_image",
    "rtdose_rle_1frame.dcm": "dicom_not_an_image",
    "6293": "study_empty",  # localizers
    "6924": "study_empty",
}
ROUNDED = {
    "6154": "a rescale slope of 0.684",
    "6247": "a rescale slope of 0.684",
    "6278": "a rescale slope of 0.684",
    "examples_palette.dcm": "a palette of 16 bits, which dcmtk cuts",
    "SC_ybr_full_422_uncompressed.dcm": "colours converted",
}
"""Where the two may differ by one of 255, and why."""
NOT_READ_BY_DCMTK = {
    "693_J2KI.dcm",
    "GDCMJ2K_TextGBR.dcm",
    "J2K_pixelrep_mismatch.dcm",
    "JPEG2000.dcm",
    "MR_small_jp2klossless.dcm",
    "examples_jpeg2k.dcm",  # no JPEG 2000
    "SC_rgb_gdcm_KY.dcm",
    "SC_rgb_jpeg.dcm",  # not in the syntax that it names
}
CENTRES = (128, 600, 1024, 2000, -500, 20000)


def _pixel_files() -> list[Path]:
    found = []
    for path in sorted({Path(str(path)) for path in get_testdata_files()}):
        if not path.is_file():
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                ds = pydicom.dcmread(path, force=True)
                there = any(name in ds for name in ("PixelData", "FloatPixelData"))
            except Exception:  # noqa: BLE001 - it is damaged
                there = path.name in REFUSED
        if there:
            found.append(path)
    return found


FILES = _pixel_files()


def dcmtk(path: Path, folder: Path, *options: str) -> np.ndarray:
    syntax = pydicom.dcmread(path, stop_before_pixels=True, force=True).file_meta.get(
        "TransferSyntaxUID", UID("1.2.840.10008.1.2")
    )
    program = "dcml2pnm" if syntax in (JPEGLSLossless, JPEGLSNearLossless) else "dcmj2pnm"
    out = folder / "out.pnm"
    subprocess.run([tool(program), "-q", "-O", *options, "+op", path, out], check=True)
    return np.asarray(Image.open(out)).astype(int)


def first(study: Study) -> np.ndarray:
    return np.asarray(study.images[0].pixels).astype(int)


def test_the_wheel_has_its_files() -> None:
    assert len(FILES) >= 95
    assert {path.name for path in FILES} >= {*REFUSED, *ROUNDED, *NOT_READ_BY_DCMTK}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_file_is_refused_by_its_code_or_shown_as_dcmtk_shows_it(
    path: Path, tmp_path: Path
) -> None:
    if path.name in REFUSED:
        with pytest.raises(MedGemmaError) as error:
            read_study(path)
        assert error.value.code == REFUSED[path.name]
        return
    ours = read_study(path, window="file")
    if path.name in NOT_READ_BY_DCMTK:
        with pytest.raises(subprocess.CalledProcessError):
            dcmtk(path, tmp_path)
        return
    most = 1 if path.name in ROUNDED else 0
    if ours.images[0].pixels.mode == "RGB":
        for number, image in enumerate(ours.images, 1):
            theirs = dcmtk(path, tmp_path, "+F", str(number))
            assert np.abs(np.asarray(image.pixels).astype(int) - theirs).max() <= most
        return
    for centre in CENTRES:
        theirs = dcmtk(path, tmp_path, "+Ww", str(centre), "256")
        assert np.abs(first(read_study(path, window=(centre, 256))) - theirs).max() <= most


def test_all_of_them_are_read_within_a_gigabyte() -> None:
    script = """if True:
        import re, resource, sys
        from pathlib import Path
        from medgemma_client.study import read_study
        from medgemma_tasks.errors import MedGemmaError
        for path in sys.argv[1:]:
            try:
                read_study(path)
            except MedGemmaError:
                pass
        # Not ru_maxrss of itself, in which the process counts that began it.
        print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
        print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
    """
    command = [sys.executable, "-c", script, *map(str, FILES)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert all(int(kilobytes) < 2**20 for kilobytes in done.stdout.split())
    assert done.stderr == ""  # no warning quotes a file


def folder(name: str) -> Path:
    (one,) = {path.parent for path in FILES if str(path.parent).endswith(name)}
    return one


def test_a_real_series_whose_numbers_go_up_while_it_goes_down() -> None:
    study = read_study(folder("98892001/CT5N"))
    assert study.volume is not None
    heights = [plane.origin_mm[2] for plane in study.volume.planes]
    assert heights == [-1.2375, 1.2625, 3.7625, 6.2625, 8.7625]
    by_number = [
        read_study(folder("98892001/CT5N") / name).images[0].name
        for name in ("2062", "2392", "2693", "3023", "3353")
    ]
    assert [image.name for image in study.images] == by_number[::-1]
    assert study.notes[0] == "Shown: CT, 5 slices, axial."


def test_real_localizers_are_left_out_beside_slices_and_refused_alone() -> None:
    study = read_study(folder("98892001/CT5N").parent)
    assert len(study.images) == 5
    assert "series 1 of 3 (CT, 5 slices, axial)" in study.notes[0]
    assert [note for note in study.notes if "localizer" in note] == [
        "Left out: series 2: CT, 1 slice, sagittal, localizer (it only shows where slices lie).",
        "Left out: series 3: CT, 1 slice, coronal, localizer (it only shows where slices lie).",
    ]
    with pytest.raises(MedGemmaError) as error:
        read_study(folder("98892001/CT2N"))
    assert error.value.code == "study_empty"
    assert len(read_study(folder("98892001/CT2N"), series=1).images) == 1


def test_a_real_gap_of_200_mm_is_refused_or_told_of() -> None:
    with pytest.raises(MedGemmaError, match=r"202\.50 mm between slice 1 and 2") as error:
        read_study(folder("77654033/CT2"))
    assert error.value.code == "slices_uneven"
    study = read_study(folder("77654033/CT2"), gaps="report")
    assert len(study.images) == 4
    assert any("202.50 mm" in note for note in study.notes)


def test_a_whole_disk_of_studies_gives_one_series_and_says_what_else_there_is() -> None:
    study = read_study(folder("98892001/CT5N").parents[1], gaps="report")
    told = "\n".join(study.notes)
    assert len(study.images) == 5
    assert "several studies" in told
    assert "Media Storage Directory Storage, no image" in told
    assert "Left out as damaged: 50 files" in told  # headers alone
    assert "98892001" not in told
