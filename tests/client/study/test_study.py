"""A study as it is put to the model."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medgemma_client.images.reference import reference
from medgemma_client.study import Limits, read_study
from medgemma_tasks.asking import make_messages
from medgemma_tasks.errors import EmptyPrompt, InvalidRequest, StudyTooLarge, TruncatedImage
from medgemma_tasks.models import ImageRef
from tests.client.study.phantom import Scan, ct_slice

Find = Callable[[str], Path]

FLAT = np.zeros((4, 4), np.int16)


def slices(count: int, **tags: Any) -> list[bytes]:
    return [
        ct_slice(FLAT + k, position=(0, 0, k), number=k + 1, SOPInstanceUID=f"1.2.{k}", **tags)
        for k in range(count)
    ]


def png(grey: int, size: tuple[int, int] = (8, 8)) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", size, (grey, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def test_slices_are_put_as_the_model_was_trained() -> None:
    study = read_study(slices(3))
    prompt = study.prompt("Is there a bleed?")
    assert prompt == [
        "These are 3 slices of a CT examination, in their order in space.",
        0,
        "SLICE 1",
        1,
        "SLICE 2",
        2,
        "SLICE 3",
        "Is there a bleed?",
    ]
    (message,) = make_messages(prompt, None, len(study.images))
    assert [part.type for part in message.content][:3] == ["text", "image", "text"]
    assert study.prompt("What?", "Look at these.")[0] == "Look at these."


def test_more_slices_than_the_model_takes_are_sampled_and_numbered_as_they_are_shown() -> None:
    study = read_study(slices(100))
    assert len(study.images) == 85
    assert study.shown[-1] == 99
    assert study.prompt("What?")[-2] == "SLICE 85"
    assert any("Of 100 images 85 are shown" in note for note in study.notes)
    assert study.volume is not None
    assert len(study.volume.planes) == 100
    for index, image in zip(study.shown, study.images, strict=True):
        assert image.attributes.plane == study.volume.planes[index]


def test_a_radiograph_comes_before_its_question(wheel_file: Find) -> None:
    study = read_study(wheel_file("dicomdirtests/77654033/CR1/6154"))
    assert study.prompt("Is it normal?") == [0, "Is it normal?"]


def test_a_pair_of_radiographs_is_the_prior_one_the_current_one_and_the_question(
    wheel_file: Find,
) -> None:
    before, after = (
        wheel_file(f"dicomdirtests/77654033/{name}") for name in ("CR1/6154", "CR2/6247")
    )
    study = read_study(after, prior=before)
    assert study.prompt("What has changed?") == [0, 1, "What has changed?"]
    names = [read_study(path).images[0].name for path in (before, after)]
    assert [image.name for image in study.images] == names
    assert study.max_new_tokens == 600
    assert study.notes[0] == "Prior study: Shown: CR, 1 image."
    assert study.notes[1] == "Current study: Shown: CR, 1 image."
    assert len(study.origins) == 2


def test_a_pair_of_series_is_announced_and_shares_the_slices() -> None:
    study = read_study(slices(3), prior=slices(2))
    assert study.prompt("What has changed?") == [
        "The prior study:",
        0,
        "SLICE 1",
        1,
        "SLICE 2",
        "The current study:",
        2,
        "SLICE 1",
        3,
        "SLICE 2",
        4,
        "SLICE 3",
        "What has changed?",
    ]
    assert len(read_study(slices(100), prior=slices(100)).images) == 84
    assert len(read_study(slices(100), prior=slices(100), max_slices=10).images) == 10
    with pytest.raises(InvalidRequest):
        read_study(slices(3), prior=slices(2), max_slices=1)


def test_the_prior_series_is_of_the_modality_of_the_current_one() -> None:
    mr = [
        ct_slice(FLAT, position=(0, 0, k), Modality="MR", SOPInstanceUID=f"1.3.{k}", number=k)
        for k in range(5)
    ]
    study = read_study(slices(3), prior=mr + slices(2))
    assert study.prior is not None
    assert (study.prior.modality, len(study.prior.images)) == ("CT", 2)
    assert not any("the current one" in note for note in study.notes)
    other = read_study(slices(3), prior=mr + slices(2), prior_series="MR")
    assert other.notes[-1] == "The prior study is MR, the current one CT."


def test_images_that_are_no_dicom_come_before_the_question_and_patches_after_it() -> None:
    files = [png(10), png(20), png(30)]
    study = read_study(files)
    assert study.prompt("What?") == [0, 1, 2, "What?"]
    assert study.notes == ("Shown: 3 images without DICOM, taken for images.",)
    patches = read_study(files, kind="patches")
    assert patches.prompt("What tissue?") == ["What tissue?", 0, 1, 2]
    assert patches.max_new_tokens == 2000
    assert len(read_study([png(k) for k in range(130)], kind="patches").images) == 125


def test_a_damaged_image_among_others_is_refused() -> None:
    whole = png(3, (200, 200))
    with pytest.raises(TruncatedImage, match=r"^Image 2 of 2: "):
        read_study([png(1), whole[: len(whole) // 2]])


def test_images_that_are_too_many_pixels_together_are_refused() -> None:
    with pytest.raises(StudyTooLarge):
        read_study([png(k) for k in range(5)], limits=Limits(shown_bytes=4 * 3 * 64))


def test_a_study_says_what_its_images_need() -> None:
    assert not read_study(slices(1)).pad_to_square
    assert read_study(Scan(slices=1).files()).pad_to_square
    assert read_study(slices(1)).max_new_tokens is None


def test_images_are_ready_for_upload_with_their_place_and_nothing_that_names_anybody() -> None:
    study = read_study(slices(2))
    ref = reference(study.images[1], {})
    assert ref.attributes.plane is not None
    assert ref.attributes.plane.model_dump() == {
        "origin_mm": (0, 0, 1),
        "row": (1, 0, 0),
        "column": (0, 1, 0),
        "thickness_mm": None,
        "step_mm": 1,
    }
    assert ref.attributes.spacing_mm == (1, 1)
    assert ImageRef.model_validate_json(ref.model_dump_json()) == ref


@pytest.mark.parametrize("question", ["", "  ", None])
def test_a_question_that_asks_nothing_is_refused(question: Any) -> None:
    with pytest.raises(EmptyPrompt):
        read_study(slices(1)).prompt(question)
