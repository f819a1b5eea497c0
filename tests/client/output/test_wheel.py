"""Every image inside the pydicom wheel, given out again."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medgemma_tasks.errors import InputError, NotPlaced, SourceIncomplete
from tests.client.output.conftest import Ask
from tests.client.output.reading import WHEEL, by_pydicom, errors, written


def test_every_image_becomes_an_object_without_an_error_of_ours(ask: Ask, tmp_path: Path) -> None:
    """Four files have no UIDs, which are the only ones refused."""
    made, refused, unplaced = {"sc": 0, "pm": 0}, 0, 0
    for source in sorted(WHEEL.rglob("*")):
        if not source.is_file():
            continue
        try:
            result = ask(source)
        except InputError:
            continue
        for kind in made:
            try:
                path = written(result.to_dicom(kind, source), tmp_path)
            except SourceIncomplete:
                refused += 1
                continue
            except NotPlaced:
                unplaced += 1
                continue
            made[kind] += 1
            assert errors(path) <= errors(source), source.name
            if kind == "sc":
                assert np.array_equal(by_pydicom(path), np.asarray(result.overlay()))
    assert made["sc"] >= 75
    assert made["pm"] >= 35
    assert refused == 8
    assert made["pm"] + unplaced == made["sc"]
