"""Folders, zip files and lists: which files there are, and what is never followed or unpacked."""

from __future__ import annotations

import os
import struct
import tracemalloc
import zipfile
import zlib
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import DeflatedExplicitVRLittleEndian

from medgemma_client.study import Limits, read_study
from medgemma_client.study.files import open_files
from medgemma_tasks.errors import (
    ArchiveUnreadable,
    FileUnreadable,
    ImageTooLarge,
    MedGemmaError,
    PathOutside,
    StudyEmpty,
    StudyTooLarge,
)
from tests.client.study.phantom import ct_slice

FLAT = np.zeros((4, 4), np.int16)


def slices(count: int = 3) -> list[bytes]:
    return [ct_slice(FLAT + k, position=(0, 0, k), number=k + 1) for k in range(count)]


def zipped(
    members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, mode: int = 0o644
) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type, info.external_attr = method, mode << 16
            archive.writestr(info, data)
    return buffer.getvalue()


@pytest.fixture
def study_folder(tmp_path: Path) -> Path:
    root = tmp_path / "study"
    (root / "series" / "deeper").mkdir(parents=True)
    for name, data in zip(("series/10", "series/2", "series/deeper/1"), slices(), strict=True):
        (root / name).write_bytes(data)
    return root


def contents(source: object, limits: Limits | None = None) -> list[bytes]:
    with open_files(source, limits or Limits()) as files:  # type: ignore[arg-type]
        return [file.read() for file in files]


def test_the_files_of_a_folder_come_in_the_order_that_people_count(study_folder: Path) -> None:
    ten, two, one = slices()
    assert contents(study_folder) == [two, ten, one]
    assert contents(str(study_folder)) == contents(study_folder)


def test_a_zip_file_is_read_as_the_folder_that_was_packed(
    study_folder: Path, tmp_path: Path
) -> None:
    names = ("series/10", "series/2", "series/deeper/1")
    members = {name: (study_folder / name).read_bytes() for name in names}
    data = zipped({"series/": b"", **members, "series/.DS_Store": b"x"})
    (tmp_path / "study.zip").write_bytes(data)
    assert contents(tmp_path / "study.zip") == contents(study_folder) == contents(data)


def test_a_list_keeps_its_order_and_may_hold_folders_and_zip_files(study_folder: Path) -> None:
    first, *_ = slices()
    assert contents([first, study_folder, zipped({"a": first})]) == [
        first,
        *contents(study_folder),
        first,
    ]


def test_files_of_the_system_are_passed_over(study_folder: Path) -> None:
    (study_folder / ".hidden").write_bytes(b"x")
    (study_folder / ".git").mkdir()
    (study_folder / ".git" / "config").write_bytes(b"x")
    os.mkfifo(study_folder / "series" / "pipe")
    assert len(contents(study_folder)) == 3


def test_a_study_needs_no_name_of_a_file_to_be_read(study_folder: Path) -> None:
    (study_folder / "README.txt").write_text("not an image")
    study = read_study(study_folder)
    assert len(study.images) == 3
    assert "Left out: 1 file: no DICOM." in study.notes


def test_what_an_image_came_from_can_be_read_again_later(study_folder: Path) -> None:
    packed = zipped({str(k): data for k, data in enumerate(slices())})
    for source in (study_folder, packed):
        study = read_study(source)
        assert [origin.file.read() for origin in study.origins] == slices()


@pytest.mark.parametrize("target", ["file", "folder"])
def test_a_link_out_of_the_folder_is_refused(
    study_folder: Path, tmp_path: Path, target: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(slices()[0])
    link = study_folder / "series" / "link"
    link.symlink_to(outside / "secret" if target == "file" else outside)
    with pytest.raises(PathOutside) as error:
        read_study(study_folder)
    assert str(tmp_path) not in error.value.message


def test_a_link_inside_the_folder_reads_nothing_twice(study_folder: Path) -> None:
    (study_folder / "again").symlink_to(study_folder / "series")
    (study_folder / "too").symlink_to(study_folder / "series" / "2")
    (study_folder / "series" / "round").symlink_to(study_folder)
    assert len(contents(study_folder)) == 3


def test_a_link_put_in_the_place_of_a_file_is_not_followed(
    study_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    with open_files(study_folder, Limits()) as files:
        (study_folder / "series" / "2").unlink()
        (study_folder / "series" / "2").symlink_to(tmp_path / "secret")
        with pytest.raises(FileUnreadable):
            files[0].read()


@pytest.mark.parametrize("name", ["nowhere", "nul\0byte", "pipe"])
def test_what_cannot_be_read_is_told_of_without_its_path(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileUnreadable) as error:
        read_study(tmp_path / name)
    assert str(tmp_path) not in error.value.message
    assert name not in error.value.message


def test_an_empty_folder_is_an_empty_study(tmp_path: Path) -> None:
    with pytest.raises(StudyEmpty):
        read_study(tmp_path)
    with pytest.raises(StudyEmpty):
        read_study([])
    with pytest.raises(StudyEmpty):
        read_study(zipped({}))


@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "a/../../up", "..\\up", "C:\\up", "C:/"])
def test_a_name_that_leads_out_of_a_zip_file_is_refused(name: str) -> None:
    with pytest.raises(PathOutside):
        contents(zipped({"fine": b"x", name: b"x"}))


def test_a_link_in_a_zip_file_is_refused() -> None:
    with pytest.raises(PathOutside):
        contents(zipped({"link": b"/etc/passwd"}, mode=0o120777))


def test_an_encrypted_zip_file_is_refused() -> None:
    data = bytearray(zipped({"a": b"x"}))
    data[6] |= 1  # the flag, before the member and in the directory
    data[data.index(b"PK\1\2") + 8] |= 1
    with pytest.raises(ArchiveUnreadable, match="encrypted"):
        contents(bytes(data))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_method_that_unpacks_without_bound_is_refused(method: int) -> None:
    with pytest.raises(ArchiveUnreadable, match="another method"):
        contents(zipped({"a": b"x"}, method))


def test_a_zip_bomb_is_refused_before_anything_is_unpacked() -> None:
    data = zipped({str(k): bytes(20_000_000) for k in range(6)})
    assert len(data) < 200_000
    tracemalloc.start()
    with pytest.raises(StudyTooLarge, match="which no real study does"):
        read_study(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_zip_bomb_of_overlapping_members_is_refused() -> None:
    data = zipped({"a": bytes(1000), "b": bytes(1000)})
    second = data.index(b"PK\1\2", data.index(b"PK\1\2") + 1)
    # The second name stands for the first one's data too.
    data = data[: second + 42] + struct.pack("<L", 0) + data[second + 46 :]
    with pytest.raises(ArchiveUnreadable):
        contents(data)


def test_a_member_that_is_more_than_it_declares_is_no_larger_for_that() -> None:
    data = bytearray(zipped({"a": bytes(5_000_000)}))
    at = data.index(b"PK\1\2")
    data[at + 24 : at + 28] = struct.pack("<L", 100)
    with pytest.raises(ArchiveUnreadable):  # the sum of its bytes is another
        contents(bytes(data))


def test_a_directory_of_very_many_names_is_not_even_read() -> None:
    data = bytearray(zipped({"a": b"x"}))
    end = data.index(b"PK\5\6")
    padding = bytes(2**23)
    data[end:end] = padding
    end += len(padding)
    data[end + 12 : end + 16] = struct.pack("<L", end - data.index(b"PK\1\2"))
    with pytest.raises(StudyTooLarge, match="too many files"):
        contents(bytes(data))


@pytest.mark.parametrize(
    ("limits", "kind"),
    [
        (Limits(files=2), StudyTooLarge),
        (Limits(total_bytes=1500), StudyTooLarge),
        (Limits(file_bytes=500), ImageTooLarge),
        (Limits(frames=2), StudyTooLarge),
        (Limits(pixels=15), ImageTooLarge),
        (Limits(shown_bytes=100), StudyTooLarge),
    ],
)
@pytest.mark.parametrize("packed", [True, False])
def test_more_than_the_limits_is_refused(
    study_folder: Path, limits: Limits, kind: type[MedGemmaError], packed: bool
) -> None:
    source: object = study_folder
    if packed:
        source = zipped({str(k): data for k, data in enumerate(slices())})
    with pytest.raises(kind):
        read_study(source, limits=limits)  # type: ignore[arg-type]


def deflate_bomb() -> bytes:
    """A few kilobytes that stand for a slice and 300 MB of nothing after it."""
    plain = ct_slice(FLAT, syntax=DeflatedExplicitVRLittleEndian)
    start = 144 + int.from_bytes(plain[140:144], "little")  # the file meta tells its own length
    data_set = zlib.decompress(plain[start:], -15)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(data_set)
    packed += packer.compress(b"\xfc\xff\xfc\xffOB\0\0" + struct.pack("<L", 300_000_000))
    for _ in range(300):
        packed += packer.compress(bytes(1_000_000))
    return plain[:start] + packed + packer.flush()


def test_a_deflate_bomb_is_refused_and_takes_no_more_than_its_limit() -> None:
    bomb = deflate_bomb()
    assert len(bomb) < 500_000
    limits = Limits(inflated_bytes=20_000_000)
    tracemalloc.start()
    with pytest.raises(ImageTooLarge, match="inflates"):
        read_study(bomb, limits=limits)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * limits.inflated_bytes
    with pytest.raises(ImageTooLarge, match="inflates"):
        read_study([*slices(), bomb])


def test_a_deflated_slice_is_read() -> None:
    deflated = ct_slice(FLAT, syntax=DeflatedExplicitVRLittleEndian)
    assert read_study(deflated).images[0].name == read_study(slices()[0]).images[0].name


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_zip_file_is_read_or_refused_and_nothing_else(data: st.DataObject) -> None:
    whole = bytearray(zipped({str(k): one for k, one in enumerate(slices(2))}))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(4, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(len(whole) // 2, len(whole)))
    with suppress(MedGemmaError):
        read_study(bytes(whole[:cut]))
