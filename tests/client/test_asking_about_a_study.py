from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pydicom.data
import pytest

from medgemma_client.aio import AsyncClient
from medgemma_client.client import Client
from medgemma_client.job import Job
from medgemma_client.question import images_that_fit
from medgemma_client.study import read_study
from medgemma_tasks.errors import InvalidRequest, SlicesUneven
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.models import ImagePart, ServedModel, TextPart
from tests.parts import picture
from tests.stub_engine import StubEngine

STUDIES = Path(str(pydicom.data.get_testdata_file("DICOMDIR"))).parent
CT, CHEST = STUDIES / "98892001", STUDIES / "77654033" / "CR1"


def parts(client: Client, ledger: Ledger, **asked: object) -> list[str | int]:
    request = ledger.request(client.submit(**asked).id)  # type: ignore[arg-type]
    assert request is not None
    found: list[str | int] = []
    for part in request.messages[-1].content:
        assert isinstance(part, TextPart | ImagePart)
        found.append(part.text if isinstance(part, TextPart) else part.image)
    return found


def test_a_study_is_asked_about_as_the_model_was_trained(client: Client, ledger: Ledger) -> None:
    said = parts(client, ledger, study=CT, prompt="What is it?")
    assert said[1:5] == [0, "SLICE 1", 1, "SLICE 2"]
    assert said[-1] == "What is it?"


def test_the_job_says_what_was_chosen_and_what_left_out(client: Client) -> None:
    job = client.submit(study=CT, prompt="What is it?")
    assert any(note.startswith("Shown: series 1 of 3 (CT, 5 slices") for note in job.notes)
    assert any("localizer" in note for note in job.notes)
    assert client.submit(picture(), "What?").notes == ()


def test_what_was_left_out_is_kept_with_the_question_and_is_no_part_of_what_makes_the_job(
    client: Client, ledger: Ledger, run: Callable[[Job], None]
) -> None:
    study = read_study(CT)
    job = client.submit(study=study, prompt="What is it?")
    again = client.submit(study=replace(study, notes=("Another tale.",)), prompt="What is it?")
    assert (again.id, again.notes) == (job.id, ("Another tale.",))
    run(job)
    assert job.wait().notes == job.notes == study.notes != ()
    with_images = client.submit(picture(), "What?")
    run(with_images)
    assert with_images.wait().notes == ()


def test_a_slice_carries_where_it_lies_and_no_name(client: Client, ledger: Ledger) -> None:
    request = ledger.request(client.submit(study=CT, prompt="What is it?").id)
    assert request is not None
    heights = [ref.attributes.plane.origin_mm[2] for ref in request.images if ref.attributes.plane]
    assert len(heights) == 5
    assert heights == sorted(heights) or heights == sorted(heights, reverse=True)
    assert "1.3.6.1.4.1" not in request.model_dump_json()


def test_a_prior_study_stands_before_the_current_one(client: Client, ledger: Ledger) -> None:
    prior = STUDIES / "77654033" / "CR2"
    assert parts(client, ledger, study=CHEST, prior=prior, prompt="New?") == [0, 1, "New?"]


def test_a_study_read_with_choices_of_ones_own_is_taken_as_it_is(
    client: Client, ledger: Ledger
) -> None:
    study = read_study(CT, max_slices=2)
    assert parts(client, ledger, study=study, prompt="What?")[1:-1] == [0, "SLICE 1", 1, "SLICE 2"]


def test_what_is_wrong_with_a_study_is_said_before_anything_is_written(
    client: Client, ledger: Ledger
) -> None:
    before = ledger.store.keys("")
    with pytest.raises(SlicesUneven, match="gaps"):
        client.submit(study=STUDIES / "77654033", prompt="What?")
    assert ledger.store.keys("") == before


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"images": picture(), "study": CT}, "not about both"),
        ({"prior": CT}, "needs a current one"),
        ({"study": read_study(CHEST), "prior": CT}, "read them together"),
        ({"study": CHEST, "prompt": ["Before:", 0]}, "text"),
        ({}, "not 0"),
    ],
)
def test_a_question_is_about_images_or_about_a_study(
    client: Client, asked: dict[str, object], why: str
) -> None:
    with pytest.raises(InvalidRequest, match=why):
        client.submit(**{"prompt": "What?", **asked})  # type: ignore[arg-type]


def test_no_more_slices_are_shown_than_the_model_has_room_for() -> None:
    served = StubEngine().served

    def with_room(tokens: int) -> ServedModel:
        return served.model_copy(update={"max_context_tokens": tokens, "tokens_per_image": 256})

    assert images_that_fit(with_room(131_072)) is None
    few = images_that_fit(with_room(8_192))
    assert few is not None
    assert 25 <= few <= 28
    assert few * (256 + 14) + 300 + 500 <= 8_192
    assert images_that_fit(with_room(100)) == 1


def test_a_study_that_is_larger_than_the_model_is_cut_and_that_is_said(
    client: Client, ledger: Ledger
) -> None:
    served = StubEngine().served
    small = served.model_copy(
        update={"max_context_tokens": 1_900, "tokens_per_image": 256, "max_new_tokens": 300}
    )
    ledger.publish_model(small)
    study = client.read_study(CT)
    assert len(study.images) == 4
    assert any("Of 5 images 4 are shown" in note for note in study.notes)


def test_the_same_from_an_event_loop(client: Client) -> None:
    async def ask() -> tuple[str, ...]:
        asynchronous = AsyncClient(client.settings)
        asynchronous._client = client
        study = await asynchronous.read_study(CT, max_slices=3)
        return (await asynchronous.submit(study=study, prompt="What?")).notes

    assert any("3 are shown" in note for note in asyncio.run(ask()))
