"""The size a compressed frame declares for itself."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medgemma_client.images.codestream import FrameSize, frame_size


def compressed(kind: str, mode: str, **options: Any) -> bytes:
    buffer = BytesIO()
    shape = (7, 9) if mode == "L" else (7, 9, 3)
    Image.fromarray(np.zeros(shape, np.uint8)).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True, "comment": b"\xff\xc0 no frame"}),
        ("JPEG2000", {"no_jp2": True}),
        ("JPEG2000", {"no_jp2": False}),
    ],
)
def test_rows_columns_and_samples_are_read(kind: str, options: Any, mode: str) -> None:
    data = compressed(kind, mode, **options)
    assert frame_size(data) == FrameSize(rows=7, columns=9, samples=len(mode))


def test_jpeg_ls_is_read() -> None:
    jpeg_ls = b"\xff\xd8\xff\xf7\x00\x0b\x08\x00\x07\x00\x09\x01\x01\x11\x00"
    assert frame_size(jpeg_ls) == FrameSize(7, 9, 1)


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"\xff\x4f\xff\x51\0", b"\0\0\0\x0cjP  ", b"RLE"]
)
def test_what_is_unclear_is_none(data: bytes) -> None:
    assert frame_size(data) is None


def test_a_jpeg_cut_anywhere_gives_its_size_or_none() -> None:
    data = compressed("JPEG", "L")
    for end in range(len(data)):
        assert frame_size(data[:end]) in (None, FrameSize(7, 9, 1))
