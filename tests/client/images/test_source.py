"""What read_image promises whatever the source is."""

from __future__ import annotations

import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medgemma_client.images import read_image
from medgemma_tasks.errors import (
    DicomSupportMissing,
    EmptyImage,
    FileUnreadable,
    ImageTooLarge,
    InputError,
    NotAnImage,
)
from medgemma_tasks.identity import image_name

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4)


def png_of(array: np.ndarray) -> bytes:
    buffer = BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def test_importing_the_package_loads_neither_pydicom_nor_torch_nor_pillow() -> None:
    code = (
        "import sys, medgemma_client.images as i; i.__all__;"
        "assert not {'pydicom', 'torch', 'PIL'} & set(sys.modules), sorted(sys.modules);"
        "from medgemma_client.images import read_image;"
        "assert not {'pydicom', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_same_pixels_have_the_same_name_from_a_path_bytes_an_image_and_an_array(
    tmp_path: Path,
) -> None:
    path = tmp_path / "picture.dcm"  # the suffix lies, and does not matter
    path.write_bytes(png_of(GREY))
    images = [
        read_image(path),
        read_image(str(path)),
        read_image(path.read_bytes()),
        read_image(Image.fromarray(GREY)),
        read_image(GREY),
    ]
    assert {image.name for image in images} == {image_name(Image.fromarray(GREY))}
    assert [image.attributes.source for image in images] == ["png", "png", "png", "other", "array"]
    assert all(np.array_equal(np.asarray(image.pixels), GREY) for image in images)


def test_its_png_holds_the_same_pixels_and_no_metadata() -> None:
    source = read_image(GREY)
    source.pixels.info["comment"] = "added by a caller"
    with Image.open(BytesIO(source.png())) as image:
        assert np.array_equal(np.asarray(image), GREY)
        assert image.info == {}
    chunks = source.png()
    assert not any(
        kind in chunks for kind in (b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"tIME", b"iCCP")
    )


def test_the_pixels_are_a_copy() -> None:
    array = GREY.copy()
    source = read_image(array)
    array[:] = 0
    assert np.array_equal(np.asarray(source.pixels), GREY)


def test_a_callers_image_stays_open_and_at_its_page() -> None:
    buffer = BytesIO()
    pages = [Image.fromarray(GREY + page) for page in range(3)]
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:])
    with Image.open(buffer) as image:
        image.seek(1)
        assert np.array_equal(np.asarray(read_image(image).pixels), GREY + 1)
        assert np.array_equal(np.asarray(read_image(image, frame=2).pixels), GREY + 2)
        assert image.tell() == 1


@pytest.mark.parametrize(
    "array",
    [
        GREY.astype(np.uint16),
        GREY.astype(np.float32),
        GREY.astype(bool),
        GREY[0],
        np.zeros((3, 4, 4), np.uint8),
        np.zeros((3, 4, 1), np.uint8),
        np.uint8(3) * np.ones((), np.uint8),
    ],
)
def test_arrays_of_another_type_or_shape_are_refused(array: np.ndarray) -> None:
    with pytest.raises(NotAnImage, match="uint8"):
        read_image(array)


def test_arrays_that_are_not_contiguous_are_read_as_they_look() -> None:
    assert np.array_equal(np.asarray(read_image(GREY.T[::-1]).pixels), GREY.T[::-1])


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 0, 3)])
def test_an_image_without_pixels_is_empty(shape: tuple[int, ...]) -> None:
    with pytest.raises(EmptyImage):
        read_image(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("what", ["missing", "folder", "pipe", "null byte"])
def test_a_path_that_cannot_be_read_is_refused_without_naming_it(what: str, tmp_path: Path) -> None:
    path = tmp_path / "DOE^JANE"
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    name = str(path) + ("\0" if what == "null byte" else "")
    with pytest.raises(FileUnreadable) as caught:
        read_image(name)
    assert "DOE" not in f"{caught.value} {caught.value.details}"
    assert caught.value.__cause__ is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    path.chmod(0)
    with pytest.raises(FileUnreadable, match="permission"):
        read_image(path)


def test_bytes_are_limited_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(10**12)  # a terabyte that could not be read into memory
    with pytest.raises(ImageTooLarge, match="limit is 1000000000"):
        read_image(path)
    with pytest.raises(ImageTooLarge):
        read_image(png_of(GREY), max_file_bytes=20)


def test_pixels_are_limited_for_every_source() -> None:
    for source in (png_of(GREY), Image.fromarray(GREY), GREY):
        with pytest.raises(ImageTooLarge) as caught:
            read_image(source, max_pixels=11)
        assert caught.value.details == {"pixels": 12, "limit": 11}
        read_image(source, max_pixels=12)


@pytest.mark.parametrize("source", [b"", b"hello", b"%PDF-1.7", b"GIF89a" + b"\0" * 20, 3, None])
def test_what_is_no_image_is_refused(source: object) -> None:
    with pytest.raises(NotAnImage):
        read_image(source)  # type: ignore[arg-type]


@pytest.mark.parametrize("frame", [1, -1])
def test_a_frame_that_is_not_there_is_refused(frame: int) -> None:
    for source in (png_of(GREY), Image.fromarray(GREY), GREY):
        with pytest.raises(InputError, match="no frame"):
            read_image(source, frame=frame)
        read_image(source, frame=0)


def test_without_pydicom_a_dicom_file_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(DicomSupportMissing, match=r"medgemma-explainer\[dicom\]"):
        read_image(b"\0" * 128 + b"DICM")
