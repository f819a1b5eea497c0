from __future__ import annotations

import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from medgemma_tasks.identity import image_name, job_id
from medgemma_tasks.models import (
    AnswerTarget,
    ImageAttributes,
    KeywordTarget,
    Message,
    Options,
    Plane,
    PromptTarget,
    TextPart,
)
from tests.parts import picture, reference
from tests.stub_engine import StubEngine


def identify(**changed: Any) -> str:
    question: dict[str, Any] = {
        "tenant": "local",
        "images": (reference(picture()),),
        "messages": (Message(role="user", content=(TextPart(text="What?"),)),),
        "targets": (AnswerTarget(),),
        "options": Options(),
        "model": StubEngine().served,
        "nonce": None,
    }
    return job_id(**{**question, **changed})


def test_the_same_question_is_the_same_job() -> None:
    assert identify() == identify()
    assert re.fullmatch("[0-9a-f]{32}", identify())


def test_whatever_differs_makes_another_job() -> None:
    sided = reference(picture()).model_copy(
        update={"attributes": ImageAttributes(left_of_image="patient-right")}
    )
    ids = [
        identify(),
        identify(tenant="another"),
        identify(images=(reference(picture(grey=8)),)),
        identify(images=(sided,)),
        identify(images=(reference(picture()),) * 2),
        identify(messages=(Message(role="user", content=(TextPart(text="Why?"),)),)),
        identify(targets=(KeywordTarget(keyword="effusion"),)),
        identify(targets=(KeywordTarget(keyword="effusion", occurrence=2),)),
        identify(targets=(PromptTarget(keyword="effusion"),)),
        identify(targets=(KeywordTarget(keyword="effusion"), AnswerTarget())),
        identify(given_answer="No effusion."),
        identify(options=Options(method="rollout")),
        identify(options=Options(resolution="patch")),
        identify(options=Options(max_new_tokens=5)),
        identify(options=Options(pad_to_square=False)),
        identify(model=StubEngine(revision="stub-2").served),
        identify(model=StubEngine("another").served),
        identify(nonce="ab"),
    ]
    assert len(set(ids)) == len(ids)


def test_a_question_keeps_the_id_that_it_had_before_images_had_a_place_in_the_patient() -> None:
    sided = ImageAttributes(left_of_image="patient-right", spacing_mm=(0.5, 0.7), modality="CT")
    image = reference(picture()).model_copy(update={"attributes": sided})
    assert identify() == "10143e9bf307e37bd1e00f36b552355b"
    assert identify(images=(image,)) == "a31385c35634bcad8ccf3bc9de339c2f"


def test_the_place_of_a_slice_makes_another_job() -> None:
    def placed(z: float) -> str:
        plane = Plane(origin_mm=(0, 0, z), row=(1, 0, 0), column=(0, 1, 0))
        attributes = {"attributes": ImageAttributes(plane=plane)}
        return identify(images=(reference(picture()).model_copy(update=attributes),))

    assert len({identify(), placed(0), placed(1)}) == 3


@given(st.text(max_size=50), st.text(max_size=50))
def test_two_texts_share_a_job_only_when_they_are_equal(one: str, other: str) -> None:
    first, second = (
        identify(messages=(Message(role="user", content=(TextPart(text=text),)),))
        for text in (one, other)
    )
    assert (first == second) == (one == other)


def test_an_images_name_follows_from_pixels_size_and_mode() -> None:
    names = [
        image_name(picture()),
        image_name(picture(grey=8)),
        image_name(picture((6, 8))),
        image_name(picture().convert("RGB")),
    ]
    assert len(set(names)) == 4
    assert image_name(picture()) == names[0]


@given(st.binary(min_size=12, max_size=12))
def test_an_image_keeps_its_name_through_png(pixels: bytes) -> None:
    import io

    image, buffer = Image.frombytes("L", (4, 3), pixels), io.BytesIO()
    image.save(buffer, "PNG")
    assert image_name(Image.open(io.BytesIO(buffer.getvalue()))) == image_name(image)
