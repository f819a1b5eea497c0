"""Whatever the bytes: a study or an error of ours, and never another exception."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from medgemma_client.study import Limits, Study, read_study
from medgemma_tasks.errors import MedGemmaError
from tests.client.study.phantom import ct_slice

SLICES = [
    ct_slice(np.zeros((4, 4)), position=(0, 0, 2 * k), number=k, syntax=syntax)
    for k, syntax in enumerate(
        ("1.2.840.10008.1.2.1", ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)
    )
]
LIMITS = Limits(pixels=1_000_000, inflated_bytes=10_000_000, frames=1000)


def judge(files: list[bytes], gaps: str) -> None:
    with suppress(MedGemmaError):
        study = read_study(files, gaps=gaps, limits=LIMITS)  # type: ignore[arg-type]
        assert isinstance(study, Study)
        assert study.images
        assert len(study.images) == len(study.shown) == len(study.origins)
        study.prompt("What?")


@settings(max_examples=250, deadline=None)
@given(st.data(), st.sampled_from(["refuse", "report"]))
def test_slices_with_any_bytes_changed(data: st.DataObject, gaps: str) -> None:
    files = [bytearray(one) for one in SLICES]
    for file in files:
        for _ in range(data.draw(st.integers(0, 3))):
            file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(files[0])))
    judge([bytes(file) for file in files], gaps)
    judge([bytes(files[0][:cut]), bytes(files[1])], gaps)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=4), st.sampled_from(["refuse", "report"]))
def test_files_of_any_bytes(files: list[bytes], gaps: str) -> None:
    judge(files, gaps)


NUMBERS = st.floats(-1e4, 1e4) | st.sampled_from([0.0, -0.0, 1e-300, 9.9e15])


@settings(max_examples=250, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.tuples(NUMBERS, NUMBERS, NUMBERS),
            st.tuples(*[st.floats(-1, 1) | st.sampled_from([0.0, 1.0, -1.0])] * 6),
        ),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from(["refuse", "report"]),
)
def test_slices_of_any_place_and_direction(
    places: list[tuple[tuple[float, ...], tuple[float, ...]]], gaps: str
) -> None:
    files = [
        ct_slice(
            np.zeros((2, 2)),
            position=[float(f"{x:.8g}") for x in position],
            orientation=[float(f"{x:.8g}") for x in orientation],
            number=k,
        )
        for k, (position, orientation) in enumerate(places)
    ]
    judge(files, gaps)
