"""What a result says of a volume, asked about through the client."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom.data
import pytest

from medgemma_client.client import Client
from medgemma_client.job import Job
from medgemma_client.result import Result
from medgemma_tasks.errors import GeometryMissing, InvalidRequest
from tests.parts import picture

CT = Path(str(pydicom.data.get_testdata_file("DICOMDIR"))).parent / "98892001" / "CT5N"


@pytest.fixture
def result(client: Client, run: Callable[[Job], None]) -> Result:
    job = client.submit(study=CT, prompt="What?")
    run(job)
    return job.result()


def test_each_slice_has_its_share_and_with_the_words_they_come_to_one(result: Result) -> None:
    shares = result.slice_shares()
    words = result.targets[0].shares
    assert len(shares) == 5
    assert sum(shares) + words.prompt + words.answer + words.special == pytest.approx(1.0)


def test_the_peak_has_a_place_in_the_patient(result: Result) -> None:
    peak = result.peak()
    plane = result.record.images[peak.image].image.attributes.plane
    assert peak.mm is not None
    assert plane is not None
    assert peak.mm[2] == pytest.approx(plane.origin_mm[2])


def test_the_slices_that_matter_most_are_one_picture(result: Result) -> None:
    picture = result.slices(most=4)
    assert picture.mode == "RGB"
    assert min(picture.size) > 300


def test_that_picture_is_saved_of_a_volume_and_goes_with_it(
    client: Client, run: Callable[[Job], None], result: Result, tmp_path: Path
) -> None:
    assert result.is_volume
    assert (result.save(tmp_path) / "slices.png").exists()
    job = client.submit([picture(), picture(grey=9)], "What?")
    run(job)
    assert not (job.result().save(tmp_path) / "slices.png").exists()


def test_the_volume_is_written_whole(result: Result, tmp_path: Path) -> None:
    written = result.nifti(tmp_path / "relevancy.nii.gz")
    volume = nibabel.load(written)
    assert volume.shape == (16, 16, 5)
    assert np.array_equal(np.asarray(volume.dataobj, np.float32), result.scores.transpose(2, 1, 0))


def test_there_is_no_volume_of_plain_pictures_and_no_target_beyond_the_last(
    client: Client, run: Callable[[Job], None], result: Result, tmp_path: Path
) -> None:
    job = client.submit([picture(), picture(grey=9)], "What?")
    run(job)
    with pytest.raises(GeometryMissing):
        job.result().nifti(tmp_path / "x.nii.gz")
    assert not list(tmp_path.iterdir())
    assert job.result().peak().mm is None
    for ask in (result.peak, result.slice_shares, result.slices):
        with pytest.raises(InvalidRequest, match="no target 1"):
            ask(1)
