"""GDCM in its own process: the same pixels, and its crash is an error of ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.pixels import pixel_array

from medgemma_client.images import isolated, read_image
from medgemma_tasks.errors import DicomUndecodable

Find = Callable[[str], Path]


def test_jpeg_lossless_is_decoded_as_in_this_process(wheel_file: Find) -> None:
    path = wheel_file("SC_rgb_jpeg_gdcm.dcm")
    assert np.array_equal(np.asarray(read_image(path).pixels), pixel_array(path))


def test_damage_at_which_gdcm_ends_its_process_is_undecodable(wheel_file: Find) -> None:
    data = bytearray(wheel_file("SC_rgb_jpeg_gdcm.dcm").read_bytes())
    precision = data.index(b"\xff\xc3") + 4
    data[precision] = 255  # GDCM 3.2.6 ends with a segmentation fault
    with pytest.raises(DicomUndecodable):
        read_image(bytes(data))


def test_a_decoder_that_takes_too_long_is_ended(
    wheel_file: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolated, "_SECONDS", 0.01)
    with pytest.raises(DicomUndecodable):
        read_image(wheel_file("SC_rgb_jpeg_gdcm.dcm"))
