"""The way of a job by HTTP: asked, watched, fetched, cancelled."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile

import httpx
import pytest

from tests.stub_engine import ANSWER
from tests.web.asking import ask, ended, png

Header = dict[str, str]

pytestmark = pytest.mark.usefixtures("service")


@pytest.fixture(scope="module")
def done(api: httpx.Client, ours: Header) -> str:
    """The address of a job that succeeded."""
    answer = ask(api, ours, "What is done?")
    where = answer.headers["Location"]
    assert ended(api, ours, where)["state"] == "succeeded"
    return str(where)


def test_a_question_is_accepted_with_the_address_of_its_job(
    api: httpx.Client, ours: Header
) -> None:
    answer = ask(api, ours, "Is there a pneumothorax?")
    status = answer.json()
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/v1/explanations/{status['id']}"
    assert status["state"] in ("submitted", "running", "succeeded")
    assert status["links"] == {
        "self": f"/v1/explanations/{status['id']}",
        "question": f"/v1/explanations/{status['id']}/question",
        "events": f"/v1/explanations/{status['id']}/events",
        "result": f"/v1/explanations/{status['id']}/result",
        "report": f"/v1/explanations/{status['id']}/report",
    }


def test_the_same_question_is_the_same_job_as_a_form_and_as_json(
    api: httpx.Client, ours: Header
) -> None:
    image = base64.b64encode(png()).decode()
    question = {"prompt": "Form or JSON?", "images": [image]}
    as_json = api.post("/v1/explanations", headers=ours, json=question)
    assert as_json.status_code == 202
    assert as_json.json()["id"] == ask(api, ours, "Form or JSON?").json()["id"]


@pytest.mark.parametrize("kind", ["form", "JSON"])
def test_of_several_images_the_one_that_cannot_be_used_is_told(
    kind: str, api: httpx.Client, ours: Header
) -> None:
    files = [png(), png()[:-40], b"no image"]
    if kind == "form":
        answer = ask(api, ours, "Which one?", images=files)
    else:
        images = [base64.b64encode(file).decode() for file in files]
        body = {"prompt": "Which one?", "images": images}
        answer = api.post("/v1/explanations", headers=ours, json=body)
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["image"]) == (422, "truncated_image", 1)
    assert problem["detail"].startswith("Image 2 of 3: ")


def test_an_image_that_is_not_base64_is_told_too(api: httpx.Client, ours: Header) -> None:
    body = {"prompt": "Which one?", "images": [base64.b64encode(png()).decode(), "?"]}
    problem = api.post("/v1/explanations", headers=ours, json=body).json()
    assert (problem["code"], problem["image"]) == ("invalid_request", 1)
    assert problem["detail"] == "Image 2 of 2 is not base64."


def test_of_a_study_the_answer_tells_what_was_chosen_and_what_left_out(
    api: httpx.Client, ours: Header
) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as study:
        study.writestr("DOE^JANE/1.png", png())
        study.writestr("DOE^JANE/letter.txt", "Jane Doe")
    asked = {"request": json.dumps({"prompt": "What of it?"})}
    answer = api.post(
        "/v1/explanations", headers=ours, data=asked, files={"study": ("x", buffer.getvalue())}
    )
    assert answer.json()["notes"] == [
        "Shown: 1 image without DICOM, taken for images.",
        "Left out: 1 file: no image.",
    ]
    assert ask(api, ours, "And of an image?").json()["notes"] == []


def test_models_come_with_what_a_question_may_hold(api: httpx.Client, ours: Header) -> None:
    assert api.get("/v1/models", headers=ours).json() == {
        "models": ["phantom"],
        "limits": {
            "max_upload_bytes": 1_000_000_000,
            "max_json_bytes": 64_000_000,
            "max_file_bytes": 1_000_000_000,
            "max_images": 125,
        },
    }


def test_a_result_names_its_files_and_each_is_there(
    api: httpx.Client, ours: Header, done: str
) -> None:
    result = api.get(f"{done}/result", headers=ours).json()
    assert result["answer"] == ANSWER
    assert result["notes"] == []
    assert "overlay-0.png" in result["artifacts"]
    for artifact in result["artifacts"].values():
        file = api.get(artifact["url"], headers=ours)
        assert file.headers["content-type"] == artifact["content_type"]
        assert hashlib.sha256(file.content).hexdigest() == artifact["sha256"]


def test_a_question_is_told_as_the_model_is_shown_it_and_outlives_a_failure(
    api: httpx.Client, ours: Header
) -> None:
    prompt = [0, "Before.", 1, "After. What has changed?"]
    images = [png(), png()]
    asked = ask(api, ours, prompt, images=images, keyword="absent")
    assert asked.status_code == 202, asked.text
    where, job = asked.headers["Location"], asked.json()["id"]
    assert api.get(f"{where}/question", headers=ours).json() == {"id": job, "prompt": prompt}
    assert ended(api, ours, where)["state"] == "failed"
    assert api.get(f"{where}/question", headers=ours).json()["prompt"] == prompt


def test_a_report_is_a_page(api: httpx.Client, ours: Header, done: str) -> None:
    page = api.get(f"{done}/report", headers=ours)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.text.startswith("<!doctype html>")


def test_a_job_under_way_has_no_result_yet_and_can_be_cancelled(
    api: httpx.Client, ours: Header
) -> None:
    where = ask(api, ours, "sleep 30 cancelled").headers["Location"]
    early = api.get(f"{where}/result", headers=ours)
    assert (early.status_code, early.json()["code"]) == (409, "job_not_finished")
    cancelled = api.delete(where, headers=ours)
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    again = api.delete(where, headers=ours)
    assert (again.status_code, again.json()["state"]) == (200, "cancelled")
    late = api.get(f"{where}/result", headers=ours)
    assert (late.status_code, late.json()["code"]) == (409, "job_cancelled")


def test_another_tenants_job_is_as_unknown_as_one_that_never_was(
    api: httpx.Client, theirs: Header, done: str
) -> None:
    nobodys = "/v1/explanations/" + "0" * 32
    for method, place in (
        ("GET", ""),
        ("GET", "/question"),
        ("GET", "/result"),
        ("GET", "/report"),
        ("GET", "/artifacts/overlay-0.png"),
        ("DELETE", ""),
    ):
        found = [api.request(method, where + place, headers=theirs) for where in (done, nobodys)]
        assert [answer.status_code for answer in found] == [404, 404]
        told = [
            answer.text.replace(where.rpartition("/")[2], "ID")
            for answer, where in zip(found, (done, nobodys), strict=True)
        ]
        assert told[0] == told[1]


@pytest.mark.parametrize("shown", [{}, {"Authorization": "Bearer mge_no"}, {"Authorization": "x"}])
def test_without_a_known_key_nothing_is_told(api: httpx.Client, shown: Header, done: str) -> None:
    answer = api.get(done, headers=shown)
    assert (answer.status_code, answer.json()["code"]) == (401, "key_unknown")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == "Bearer"
