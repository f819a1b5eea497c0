"""Whatever the bytes: an image or an error of ours, and never another exception."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from medgemma_client.images import SourceImage, read_image
from medgemma_tasks.errors import MedGemmaError

Find = Callable[[str], Path]

quick = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
STARTS = [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM", b"\x08\0\x05\0CS"]
STARTS += [b"\0" * 128 + b"DICM", b"\0" * 128 + b"DICM\x02\0\0\0UL\x04\0\0\0\0\0", b"\x30\x80\x06"]
KINDS = ["PNG", "JPEG", "TIFF", "CT_small.dcm", "MR_small_RLE.dcm", "MR_small_jp2klossless.dcm"]
KINDS += ["MR_small_implicit.dcm", "examples_overlay.dcm", "SC_rgb_jpeg_dcmtk.dcm"]


def judge(data: bytes) -> None:
    with warnings.catch_warnings(record=True) as caught, suppress(MedGemmaError):
        warnings.simplefilter("always")
        assert isinstance(read_image(data, max_pixels=1_000_000), SourceImage)
    # pydicom's way of quoting what it could not read, at times half the file.
    assert not any("Invalid value" in str(warning.message) for warning in caught)


@pytest.fixture(params=KINDS)
def valid(request: pytest.FixtureRequest, wheel_file: Find) -> bytes:
    if request.param.endswith(".dcm"):
        return wheel_file(request.param).read_bytes()
    buffer = BytesIO()
    pixels = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, request.param)
    return buffer.getvalue()


@quick
@given(st.sampled_from(STARTS), st.binary(max_size=400))
def test_random_bytes(start: bytes, rest: bytes) -> None:
    judge(start + rest)


@quick
@given(st.data())
def test_a_valid_file_cut_anywhere(valid: bytes, data: Any) -> None:
    judge(valid[: data.draw(st.integers(0, len(valid)))])


@quick
@given(st.data())
def test_a_valid_file_with_some_bytes_changed(valid: bytes, data: Any) -> None:
    damaged = bytearray(valid)
    # Most of what can go wrong is in the first two kilobytes.
    places = st.integers(0, min(len(valid), 2048) - 1)
    changes = st.dictionaries(places, st.integers(0, 255), min_size=1, max_size=12)
    for at, value in data.draw(changes).items():
        damaged[at] = value
    judge(bytes(damaged))
