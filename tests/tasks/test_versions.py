"""What the release before this one wrote is read as if it had been written today."""

from __future__ import annotations

import json
from typing import Any

import pytest

from medgemma_tasks.ledger import Ledger
from medgemma_tasks.models import KeywordTarget, Shares, State
from medgemma_tasks.versions import read_record, read_request
from tests.parts import record_of, request_for


def old_request(**changes: Any) -> dict[str, Any]:
    """A request as schema 1 had it: one target, and no answer given."""
    data = request_for().model_dump(mode="json")
    del data["targets"], data["given_answer"]
    for option in ("method", "resolution", "areas"):
        del data["options"][option]
    return data | {"schema_version": 1, "target": {"kind": "keyword", "keyword": "lung"}} | changes


def old_record() -> dict[str, Any]:
    """A result as schema 1 had it: of one target, in the record's own fields."""
    image = request_for().images[0].model_dump(mode="json")
    data = record_of().model_dump(mode="json")
    del data["answer_given"]
    return data | {
        "schema_version": 1,
        "answer": "The lung is clear.",
        "targets": [
            {"kind": "keyword", "text": "lung", "token_positions": [301], "tokens": [" lung"]}
        ],
        "images": [
            {
                "image": image,
                "rows": 16,
                "columns": 16,
                "square": [0, -1, 8, 7],
                "share": 0.5,
                "low": 0.0,
                "high": 0.25,
                "peak_cell": [3, 4],
                "heatmap": "heatmap-0.png",
                "overlay": "overlay-0.png",
            }
        ],
        "tokens": [{"position": 0, "text": "<bos>", "role": "special", "score": 0.75}],
        "shares": {"images": 0.5, "prompt": 0.5, "answer": 0.0, "special": 0.0},
        "own_relevancy": 0.1,
    }


def read(data: dict[str, Any]) -> Any:
    return read_record(json.dumps(data).encode())


def test_an_old_request_asks_for_its_one_target() -> None:
    request = read_request(json.dumps(old_request()).encode())
    assert request.targets == (KeywordTarget(keyword="lung"),)
    assert (request.schema_version, request.given_answer) == (2, None)


def test_an_old_result_tells_of_its_one_target() -> None:
    record = read(old_record())
    (target,), (grid,), (token,) = record.targets, record.images, record.tokens
    assert (target.span.text, target.scores, target.own_relevancy) == ("lung", (0.75,), 0.1)
    assert target.shares == Shares(images=0.5, prompt=0.5, answer=0.0, special=0.0)
    assert (target.low, target.high) == (0.0, 0.25)
    assert (target.maps[0].share, target.maps[0].peak_cell) == (0.5, (3, 4))
    assert (grid.square, grid.overlay) == ((0, -1, 8, 7), "overlay-0.png")
    assert (token.text, token.role) == ("<bos>", "special")


def test_an_old_failure_is_still_one() -> None:
    data = record_of(state=State.FAILED).model_dump(mode="json")
    data |= {"schema_version": 1, "shares": None, "own_relevancy": None}
    del data["answer_given"]
    assert read(data) == record_of(state=State.FAILED)


def test_what_is_written_today_is_read_as_it_is() -> None:
    request, record = request_for(), record_of()
    assert read_request(request.model_dump_json().encode()) == request
    assert read_record(record.model_dump_json().encode()) == record


def test_an_image_told_of_before_images_had_a_place_in_the_patient_has_none() -> None:
    data = request_for().model_dump(mode="json")
    del data["images"][0]["attributes"]["plane"]
    request = read_request(json.dumps(data).encode())
    assert request == request_for()
    assert request.images[0].attributes.plane is None


@pytest.mark.parametrize("version", [0, 3, "1", None])
def test_other_versions_are_refused(version: object) -> None:
    with pytest.raises(ValueError):
        read(old_record() | {"schema_version": version})


@pytest.mark.parametrize("field", ["images", "tokens"])
@pytest.mark.parametrize("broken", [5, [5], [{}], None])
def test_a_broken_old_result_is_refused_and_nothing_worse(field: str, broken: object) -> None:
    with pytest.raises(ValueError):
        read(old_record() | {field: broken})


def test_the_store_gives_old_results_and_requests(ledger: Ledger) -> None:
    job = old_request()["job_id"]
    prefix = f"local/jobs/{job}/"
    ledger.store.put(prefix + "request.json", json.dumps(old_request()).encode())
    ledger.store.put(prefix + "result.json", json.dumps(old_record() | {"job_id": job}).encode())
    request, record = ledger.request(job), ledger.record(job)
    assert request is not None
    assert record is not None
    assert record.targets[0].span.text == "lung"
