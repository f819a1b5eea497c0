from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from copy import copy
from pathlib import Path
from secrets import token_hex
from typing import Any

import fakeredis
import numpy as np
import pytest

from medgemma_client.client import Client
from medgemma_client.job import Job
from medgemma_tasks.errors import (
    ArtifactDamaged,
    BrokerUnreachable,
    EmptyAnswer,
    EmptyPrompt,
    FileUnreadable,
    ImageTooLarge,
    InvalidRequest,
    JobNotFound,
    MedGemmaError,
    ModelNotServed,
    NotAnImage,
    QueueFull,
    SequenceTooLong,
    StoreUnreachable,
    TokenOutOfRange,
)
from medgemma_tasks.layout import input_key, job_prefix, request_key
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import (
    CharactersTarget,
    EveryTokenTarget,
    ImagePart,
    KeywordTarget,
    PromptTarget,
    State,
    TextPart,
    TokenTarget,
)
from medgemma_tasks.queue import queue_names
from medgemma_tasks.settings import Settings
from tests.parts import OTHER_JOB, picture, record_of

Run = Callable[[Job], None]


def test_importing_the_client_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'transformers', 'celery', 'kombu', 'boto3', 'PIL', 'pydicom'}"
    program = (
        "import sys, medgemma_client, medgemma_client.client\n"
        f"wrong = {heavy} & set(sys.modules)\n"
        "sys.exit(f'imported {wrong}' if wrong else 0)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_question_is_written_and_then_published(
    client: Client, ledger: Ledger, published: list[str]
) -> None:
    job = client.submit(picture(), "What?", keyword="pneumothorax", system="Be brief.")
    assert published == [job.id]
    request = ledger.request(job.id)
    assert request is not None
    assert request.targets == (KeywordTarget(keyword="pneumothorax"),)
    system, user = request.messages
    assert system.role == "system"
    assert user.content == (ImagePart(image=0), TextPart(text="What?"))
    assert ledger.input(request.images[0].name).startswith(b"\x89PNG")
    assert job.status().state is State.SUBMITTED


def test_images_come_before_the_text_and_in_order(client: Client, ledger: Ledger) -> None:
    job = client.submit([picture(grey=3), np.full((6, 8), 2, np.uint8)], "Compare?")
    request = ledger.request(job.id)
    assert request is not None
    assert request.messages[0].content[:2] == (ImagePart(image=0), ImagePart(image=1))
    assert len({ref.name for ref in request.images}) == 2


def test_a_file_is_read(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    picture().save(path)
    assert client.submit(path, "What?").id == client.submit(str(path), "What?").id


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"prompt": "   "}, EmptyPrompt),
        ({"prompt": "x" * 100_001}, InvalidRequest),
        ({"prompt": ["é" * 100_000] * 50 + [0]}, InvalidRequest),
        ({"images": []}, InvalidRequest),
        ({"images": [picture()] * 126}, InvalidRequest),
        ({"images": "/nowhere/x.png"}, FileUnreadable),
        ({"images": b"no image"}, NotAnImage),
        ({"images": [picture(), b"no image"]}, NotAnImage),
        ({"images": picture((100_001, 1000))}, ImageTooLarge),
        ({"keyword": ["x", " "]}, InvalidRequest),
        ({"answer": " "}, EmptyAnswer),
        ({"method": "No Method"}, InvalidRequest),
        ({"resolution": "pixel"}, InvalidRequest),
        ({"left_of_image": "left"}, InvalidRequest),
        ({"keyword": " "}, InvalidRequest),
        ({"keyword": "x", "occurrence": 0}, InvalidRequest),
        ({"token": -1}, TokenOutOfRange),
        ({"max_new_tokens": 0}, InvalidRequest),
        ({"max_new_tokens": 513}, InvalidRequest),
        ({"images": [picture(grey=grey) for grey in range(40)]}, SequenceTooLong),
        ({"model": "another"}, ModelNotServed),
    ],
)
def test_what_cannot_be_used_is_said_before_anything_is_written(
    client: Client,
    ledger: Ledger,
    published: list[str],
    options: dict[str, Any],
    error: type[MedGemmaError],
) -> None:
    before = ledger.store.keys("")
    with pytest.raises(error) as caught:
        client.submit(**{"images": picture(), "prompt": "What?", **options})
    assert type(caught.value) is error
    assert ledger.store.keys("") == before
    assert published == []


def test_of_several_images_it_says_which_cannot_be_used(client: Client) -> None:
    with pytest.raises(NotAnImage, match=r"^Image 2 of 3: ") as caught:
        client.submit([picture(), b"no image", b"nor this"], "What?")
    assert caught.value.details["image"] == 1
    with pytest.raises(NotAnImage) as caught:
        client.submit(b"no image", "What?")
    assert caught.value.details["image"] == 0
    assert "Image" not in caught.value.message


def test_a_model_that_is_not_served_names_those_that_are(client: Client) -> None:
    with pytest.raises(ModelNotServed, match="Served are: phantom") as caught:
        client.submit(picture(), "What?", model="google/medgemma-27b-it")
    assert caught.value.details["served"] == ["phantom"]
    assert client.models() == ["phantom"]


def test_one_question_may_ask_for_many_targets(client: Client, ledger: Ledger) -> None:
    job = client.submit(
        picture(),
        "What?",
        keyword=["heart", "lung"],
        characters=(0, 5),
        token=7,
        prompt_words="What",
        every_token=True,
        targets=[KeywordTarget(keyword="rib", occurrence=2)],
    )
    request = ledger.request(job.id)
    assert request is not None
    assert request.targets == (
        KeywordTarget(keyword="heart"),
        KeywordTarget(keyword="lung"),
        CharactersTarget(start=0, end=5),
        TokenTarget(position=7),
        PromptTarget(keyword="What"),
        EveryTokenTarget(),
        KeywordTarget(keyword="rib", occurrence=2),
    )


def test_texts_may_stand_before_between_and_after_images(client: Client, ledger: Ledger) -> None:
    films = [picture(grey=3), picture(grey=4)]
    job = client.submit(films, ["Before:", 0, "After:", 1, "What has changed?"])
    request = ledger.request(job.id)
    assert request is not None
    assert request.messages[0].content == (
        TextPart(text="Before:"),
        ImagePart(image=0),
        TextPart(text="After:"),
        ImagePart(image=1),
        TextPart(text="What has changed?"),
    )


def test_what_an_answer_is_given_and_how_it_is_explained_make_another_job(
    client: Client, ledger: Ledger
) -> None:
    ways: list[dict[str, Any]] = [
        {},
        {"answer": "Clear."},
        {"method": "rollout"},
        {"resolution": "patch"},
        {"areas": True},
        {"every_token": True},
    ]
    jobs = [client.submit(picture(), "What?", **way) for way in ways]
    assert len({job.id for job in jobs}) == len(ways)
    request = ledger.request(jobs[1].id)
    assert request is not None
    assert request.given_answer == "Clear."


def test_a_caller_may_say_how_an_image_lies(client: Client, ledger: Ledger) -> None:
    plain = client.submit(picture(), "What?")
    job = client.submit(
        picture(), "What?", left_of_image="patient-right", top_of_image="patient-head"
    )
    request = ledger.request(job.id)
    assert request is not None
    attributes = request.images[0].attributes
    assert (attributes.left_of_image, attributes.top_of_image) == ("patient-right", "patient-head")
    assert job.id != plain.id


def test_a_token_is_a_target(client: Client, ledger: Ledger) -> None:
    request = ledger.request(client.submit(picture(), "What?", token=7).id)
    assert request is not None
    assert request.targets == (TokenTarget(position=7),)


def test_a_job_under_way_is_not_published_again(client: Client, published: list[str]) -> None:
    jobs = [client.submit(picture(), "What?") for _ in range(3)]
    assert published == [jobs[0].id]


def test_a_job_that_redis_forgot_is_published_again(
    client: Client, redis_fake: fakeredis.FakeRedis, published: list[str]
) -> None:
    job = client.submit(picture(), "What?")
    redis_fake.flushall()
    client.submit(picture(), "What?")
    assert published == [job.id, job.id]


def test_a_finished_job_is_not_published_again(
    client: Client, run: Run, published: list[str]
) -> None:
    job = client.submit(picture(), "What?")
    run(job)
    assert client.submit(picture(), "What?").result().answer
    assert published == [job.id]


def test_a_failed_job_is_archived_and_published_again(
    client: Client, run: Run, live: LiveState, ledger: Ledger, published: list[str]
) -> None:
    job = client.submit(picture(), "crash")
    run(job)
    assert job.status().state is State.FAILED
    live.cancel(job.id)
    client.submit(picture(), "crash")
    assert published == [job.id, job.id]
    assert job.status().state is State.SUBMITTED
    assert len(ledger.store.keys(job_prefix("local", job.id) + "history/")) == 1
    assert not live.cancelled(job.id)
    assert live.start_attempt(job.id, token_hex(4)) == 1


def test_a_result_that_came_while_another_client_resubmitted_is_not_put_away(
    client: Client,
    ledger: Ledger,
    run: Run,
    published: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two clients see the failed mark; the first one's job succeeds before the second archives."""
    job = client.submit(picture(), "What?")
    ledger.commit(record_of(job.id, State.FAILED))
    reached: list[str] = []
    holding = LiveState.holding

    def first_one_is_quicker(live: LiveState, name: str) -> AbstractContextManager[None]:
        if not reached:
            reached.append(name)
            client.submit(picture(), "What?")  # the first client, all of it
            run(job)
            assert job.status().state is State.SUCCEEDED
        return holding(live, name)

    monkeypatch.setattr(LiveState, "holding", first_one_is_quicker)
    client.submit(picture(), "What?")
    assert job.status().state is State.SUCCEEDED
    assert published == [job.id] * 2  # the first question, and one resubmission


@pytest.mark.parametrize("force", [True, False])
@pytest.mark.parametrize("content", [None, b"damaged"])
def test_an_input_that_was_lost_or_damaged_is_uploaded_again_as_its_error_advises(
    client: Client, ledger: Ledger, run: Run, content: bytes | None, force: bool
) -> None:
    job = client.submit(picture(), "What?")
    request = ledger.request(job.id)
    assert request is not None
    key = input_key("local", request.images[0].name)
    if content is None:
        ledger.store.delete(key)
    else:
        ledger.store.put(key, content)
    run(job)
    with pytest.raises(ArtifactDamaged, match="submit it"):
        job.result()
    again = client.submit(picture(), "What?", force=force)
    run(again)
    assert again.status().state is State.SUCCEEDED


def test_force_makes_another_job(client: Client, published: list[str]) -> None:
    ids = [client.submit(picture(), "What?", force=True).id for _ in range(2)]
    assert published == ids
    assert len(set(ids)) == 2


def test_a_job_is_found_by_its_id(client: Client) -> None:
    job = client.submit(picture(), "What?")
    assert client.job(job.id).status() == job.status()


def test_an_unknown_or_malformed_id_is_no_job(client: Client) -> None:
    with pytest.raises(JobNotFound):
        client.job(OTHER_JOB)
    with pytest.raises(InvalidRequest):
        client.job("../../x")


def test_a_queue_that_is_full_is_told_before_anything_is_written(
    settings: Settings, client: Client, ledger: Ledger, redis_fake: fakeredis.FakeRedis
) -> None:
    under_way = client.submit(picture(), "Is it there already?")
    settings = settings.model_copy(update={"max_queued": 2})
    client._live.settings = settings
    redis_fake.lpush(queue_names("phantom")[0], "x", "y")
    before = ledger.store.keys("")
    with pytest.raises(QueueFull) as caught:
        client.submit(picture(), "What?")
    assert caught.value.details == {"waiting": 2, "limit": 2}
    assert ledger.store.keys("") == before
    assert client.submit(picture(), "Is it there already?").id == under_way.id
    redis_fake.rpop(queue_names("phantom")[0])
    client.submit(picture(), "What?")


def test_nothing_is_written_when_redis_is_away(
    client: Client, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(self: LiveState) -> None:
        raise BrokerUnreachable("away")

    monkeypatch.setattr(LiveState, "ping", away)
    before = ledger.store.keys("")
    with pytest.raises(BrokerUnreachable):
        client.submit(picture(), "What?")
    assert ledger.store.keys("") == before


@pytest.mark.parametrize("fails_at", [0, 1, 2])
def test_a_store_that_fails_midway_leaves_no_request_without_inputs_and_no_message(
    client: Client,
    ledger: Ledger,
    published: list[str],
    monkeypatch: pytest.MonkeyPatch,
    fails_at: int,
) -> None:
    store = client._ledger.store
    put, done = store.put, 0

    def failing(key: str, content: bytes, content_type: str = "application/json") -> None:
        nonlocal done
        if done == fails_at:
            raise StoreUnreachable("away")
        done += 1
        put(key, content, content_type)

    monkeypatch.setattr(store, "put", failing)
    with pytest.raises(StoreUnreachable):
        client.submit(picture(), "What?")
    assert published == []
    assert not [key for key in ledger.store.keys("local/jobs/") if key.endswith("request.json")]
    monkeypatch.setattr(store, "put", put)
    job = client.submit(picture(), "What?")
    assert published == [job.id]
    assert ledger.store.exists(request_key("local", job.id))


def test_a_message_that_was_not_sent_is_sent_when_asked_again(
    client: Client, published: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*args: object, **options: object) -> None:
        raise BrokerUnreachable("away")

    with monkeypatch.context() as patch:
        patch.setattr("medgemma_tasks.queue.publish", away)
        with pytest.raises(BrokerUnreachable):
            client.submit(picture(), "What?")
    job = client.submit(picture(), "What?")
    assert published == [job.id]


def test_a_client_that_is_closed_opens_again_when_it_is_used(
    client: Client, run: Callable[[Job], None]
) -> None:
    with client as opened:
        job = opened.submit(picture(), "What?")
        run(job)
        result = job.wait(1)
    assert result.overlay().mode == "RGB"
    assert client.models() == ["phantom"]
    client.close()


def test_images_that_have_too_many_pixels_together_are_refused_and_nothing_is_written(
    client: Client, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medgemma_client.pictures.TOGETHER", 400)
    small = copy(client)
    small.settings = client.settings.model_copy(update={"max_pixels": 100})
    images = [picture((10, 10), grey=grey) for grey in range(5)]
    with pytest.raises(ImageTooLarge, match="together"):
        small.submit(images, "What?")
    assert not [*ledger.store.keys("local/")]
    assert small.submit(images[:4], "What?").id
