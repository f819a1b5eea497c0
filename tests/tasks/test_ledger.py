from __future__ import annotations

import io

import pytest

from medgemma_tasks.errors import ArtifactDamaged, InvalidRequest, StoreUnreachable
from medgemma_tasks.layout import input_key, request_key, result_key
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.models import State
from tests.parts import JOB, OTHER_JOB, picture, record_of, reference, request_for
from tests.stub_engine import StubEngine

FILES = {"relevancy.npz": (b"npz", "application/octet-stream"), "map-0.png": (b"png", "image/png")}


def png() -> bytes:
    buffer = io.BytesIO()
    picture().save(buffer, "PNG")
    return buffer.getvalue()


def test_a_request_comes_back_as_it_was(ledger: Ledger) -> None:
    request = request_for()
    ledger.put_request(request)
    assert ledger.request(request.job_id) == request
    assert ledger.has_request(request.job_id)
    assert ledger.request(JOB) is None


def test_an_input_is_uploaded_once_pixels_first(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    put = ledger.store.put

    def recorded(key: str, content: bytes, content_type: str = "application/json") -> None:
        written.append(key.rpartition(".")[2])
        put(key, content, content_type)

    monkeypatch.setattr(ledger.store, "put", recorded)
    ref = reference(picture())
    ledger.put_input(ref, png())
    ledger.put_input(ref, png())
    assert written == ["png", "json"]
    assert ledger.input(ref.name) == png()


def test_an_upload_that_broke_off_is_done_again(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref, put = reference(picture()), ledger.store.put

    def failing(key: str, content: bytes, content_type: str = "application/json") -> None:
        if key.endswith(".json"):
            raise StoreUnreachable("away")
        put(key, b"half", content_type)

    monkeypatch.setattr(ledger.store, "put", failing)
    with pytest.raises(StoreUnreachable):
        ledger.put_input(ref, png())
    monkeypatch.undo()
    ledger.put_input(ref, png())
    assert ledger.input(ref.name) == png()


@pytest.mark.parametrize("lost", ["png", "json"])
def test_an_input_that_vanished_in_part_is_uploaded_again(ledger: Ledger, lost: str) -> None:
    ref = reference(picture())
    ledger.put_input(ref, png())
    ledger.store.delete(input_key("local", ref.name, lost))
    ledger.put_input(ref, png())
    assert ledger.store.exists(input_key("local", ref.name, "json"))
    assert ledger.input(ref.name) == png()


def test_a_damaged_input_is_uploaded_anew_where_that_is_asked_for(ledger: Ledger) -> None:
    ref = reference(picture())
    ledger.put_input(ref, png())
    ledger.store.put(input_key("local", ref.name), b"damaged")
    ledger.put_input(ref, png(), anew=True)
    assert ledger.input(ref.name) == png()


def test_artifacts_lie_under_their_attempt_and_are_checked(ledger: Ledger) -> None:
    artifacts = ledger.put_artifacts(JOB, "1-ab", FILES)
    assert artifacts["relevancy.npz"].key == "1-ab/relevancy.npz"
    assert ledger.artifact(JOB, artifacts["map-0.png"]) == b"png"
    ledger.store.put(f"local/jobs/{JOB}/1-ab/map-0.png", b"another")
    with pytest.raises(ArtifactDamaged):
        ledger.artifact(JOB, artifacts["map-0.png"])


def test_artifacts_that_cannot_all_be_written_leave_none(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = ledger.store.put

    def failing(key: str, content: bytes, content_type: str = "application/json") -> None:
        if key.endswith("map-0.png"):
            raise StoreUnreachable("away")
        put(key, content, content_type)

    monkeypatch.setattr(ledger.store, "put", failing)
    with pytest.raises(StoreUnreachable, match="away"):
        ledger.put_artifacts(JOB, "1-ab", FILES)
    assert ledger.store.keys(f"local/jobs/{JOB}/") == []


def test_only_the_losers_artifacts_are_discarded(ledger: Ledger) -> None:
    winner = ledger.put_artifacts(JOB, "1-ab", FILES)
    loser = ledger.put_artifacts(JOB, "2-cd", FILES)
    ledger.discard(JOB, loser.values())
    assert ledger.store.keys(f"local/jobs/{JOB}/2-cd") == []
    assert ledger.artifact(JOB, winner["map-0.png"]) == b"png"


def test_the_first_commit_stands(ledger: Ledger) -> None:
    assert not ledger.finished(JOB)
    assert ledger.commit(record_of(attempt=1))
    assert not ledger.commit(record_of(attempt=2))
    mark = ledger.record(JOB)
    assert mark is not None
    assert mark.attempt == 1


def test_archived_marks_are_kept_and_the_job_is_open_again(ledger: Ledger) -> None:
    marks = [record_of(state=State.FAILED, attempt=attempt) for attempt in (1, 2)]
    assert not ledger.archive(marks[0])
    for mark in marks:
        assert ledger.commit(mark)
        assert ledger.archive(mark)
    assert ledger.record(JOB) is None
    keys = ledger.store.keys(f"local/jobs/{JOB}/history/")
    assert {ledger.store.get(key) for key in keys} == {
        mark.model_dump_json().encode() for mark in marks
    }
    assert all(key.rpartition("/")[2].startswith("20261122T120000-") for key in keys)


def test_archiving_that_broke_off_is_done_again_without_a_second_entry(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = record_of(state=State.FAILED)
    ledger.commit(mark)

    def away(*keys: str) -> None:
        raise StoreUnreachable("away")

    with monkeypatch.context() as patch:
        patch.setattr(ledger.store, "delete", away)
        with pytest.raises(StoreUnreachable):
            ledger.archive(mark)
    assert ledger.archive(mark)
    assert len(ledger.store.keys(f"local/jobs/{JOB}/history/")) == 1


def test_no_mark_is_archived_that_succeeded_or_is_not_the_one_that_was_seen(
    ledger: Ledger,
) -> None:
    done = record_of(state=State.SUCCEEDED)
    ledger.commit(done)
    assert not ledger.archive(done)
    assert not ledger.archive(record_of(state=State.FAILED))
    assert ledger.record(JOB) == done


def test_models_are_published_and_listed(ledger: Ledger) -> None:
    served = StubEngine("google/medgemma-1.5-4b-it").served
    ledger.publish_model(served)
    assert ledger.served_model(served.name) == served
    assert ledger.served_models() == ["google/medgemma-1.5-4b-it"]
    assert ledger.served_model("another") is None


@pytest.mark.parametrize("content", [b"not json", b"{}", b'{"schema_version": 99}'])
def test_what_cannot_be_read_is_an_error_that_quotes_nothing(
    ledger: Ledger, content: bytes
) -> None:
    ledger.store.put(request_key("local", JOB), content)
    ledger.store.put(result_key("local", JOB), content)
    with pytest.raises(InvalidRequest) as caught:
        ledger.request(JOB)
    assert content.decode() not in caught.value.message
    with pytest.raises(InvalidRequest):
        ledger.record(JOB)
    assert ledger.finished(JOB)


def test_a_record_that_is_too_large_is_neither_read_nor_written(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, record = request_for(), record_of()
    ledger.put_request(request)
    ledger.commit(record)
    monkeypatch.setattr("medgemma_tasks.ledger.LARGEST_REQUEST", 100)
    monkeypatch.setattr("medgemma_tasks.ledger.LARGEST_RECORD", 100)
    before = ledger.store.keys("")
    for action in (
        lambda: ledger.request(request.job_id),
        lambda: ledger.record(JOB),
        lambda: ledger.put_request(request),
        lambda: ledger.commit(record_of(OTHER_JOB)),
    ):
        with pytest.raises(InvalidRequest, match="100"):
            action()
    assert ledger.store.keys("") == before
    assert ledger.finished(JOB)
