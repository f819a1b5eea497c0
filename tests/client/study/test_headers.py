"""The headers of slices: read from the beginnings of their files, and worked out once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from medgemma_client.study import Limits, Study, read_study
from medgemma_client.study.files import open_files
from medgemma_client.study.finding import find_frames
from medgemma_client.study.headers import HEAD
from tests.client.study.phantom import ct_slice

NOISE = np.random.default_rng(3).integers(-1000, 2000, (200, 200))


def names(study: Study) -> list[str]:
    return [image.name for image in study.images]


def found(files: list[bytes]) -> list[Any]:
    with open_files(files, Limits()) as opened:
        return find_frames(opened, Limits(), refuse=True)[0]


def test_a_header_that_is_longer_than_the_beginning_of_its_file_is_read_whole() -> None:
    long = ct_slice(NOISE, ImageComments="x" * 10_000, RedPaletteColorLookupTableData=bytes(2**17))
    assert len(long) > 2 * HEAD
    assert names(read_study(long)) == names(read_study(ct_slice(NOISE)))


def test_a_deflated_slice_that_is_longer_than_that_is_inflated_whole() -> None:
    deflated = ct_slice(NOISE, syntax=DeflatedExplicitVRLittleEndian)
    assert len(deflated) > HEAD
    study = read_study([deflated, ct_slice(NOISE, position=(0, 0, 1), number=2)])
    assert names(study) == names(read_study(ct_slice(NOISE))) * 2


@pytest.mark.parametrize(
    ("keyword", "values"),
    [
        ("ImagePositionPatient", ([0, 0, 0], [-100.25, 0, 1])),
        ("InstanceNumber", (1, 12345)),
        ("SOPInstanceUID", ("1.2", "1.2.345.678")),
        ("RescaleIntercept", (-1024, -24)),
        ("WindowCenter", (40, [40, 400])),
        ("SliceThickness", (1, 2.5)),
        ("Rows", (200, 100)),
    ],
)
def test_slices_that_differ_in_one_attribute_are_told_apart(
    keyword: str, values: tuple[Any, Any]
) -> None:
    files = [
        ct_slice(
            NOISE,
            **{"SOPInstanceUID": f"1.2.{k}", "WindowWidth": 80, "WindowCenter": 0, keyword: value},
        )
        for k, value in enumerate(values)
    ]
    together = found([files[0], files[0].replace(b"1.2.0", b"1.2.9"), files[1]])[-1]
    (alone,) = found([files[1]])
    assert (together.tags, together.header) == (alone.tags, alone.header)
    assert (together.position, together.thickness) == (alone.position, alone.thickness)
