"""What holds for every request, result, id and key, whatever is in them."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from medgemma_tasks import layout
from medgemma_tasks.errors import InvalidRequest
from medgemma_tasks.identity import job_id
from medgemma_tasks.layout import request_key, result_key
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import (
    ExplanationRecord,
    ExplanationRequest,
    ImageAttributes,
    ImageRef,
    Live,
    Message,
    ServedModel,
    Strict,
)
from medgemma_tasks.queue import Shard, queue_names
from medgemma_tasks.versions import read_record, read_request
from tests.instances import TEXT, instances, values

REQUESTS = instances(ExplanationRequest)
RECORDS = instances(ExplanationRecord)
SERVED = instances(ServedModel)

few = settings(max_examples=30, suppress_health_check=list(HealthCheck), deadline=None)
"""Large instances, and parts that are shared between examples."""

fewer = settings(few, max_examples=10)
"""For instances that are made of many."""

# --- through JSON and the store ------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [ExplanationRequest, ExplanationRecord, ServedModel, Live, Shard],
    ids=lambda k: k.__name__,
)
@given(data=st.data())
@few
def test_a_model_comes_back_from_json_as_it_was(kind: type[Strict], data: st.DataObject) -> None:
    made = data.draw(instances(kind))
    assert kind.model_validate_json(made.model_dump_json(by_alias=True)) == made


@given(REQUESTS)
@few
def test_a_request_loses_nothing_in_the_store(ledger: Ledger, request_: Any) -> None:
    ledger.put_request(request_)
    assert ledger.request(request_.job_id) == request_
    content = ledger.store.get(request_key(ledger.tenant, request_.job_id))
    assert content is not None
    assert read_request(content) == request_


@given(RECORDS)
@few
def test_a_result_loses_nothing_in_the_store(ledger: Ledger, record: ExplanationRecord) -> None:
    ledger.store.delete(result_key(ledger.tenant, record.job_id))
    assert ledger.commit(record)
    assert ledger.record(record.job_id) == record
    content = ledger.store.get(result_key(ledger.tenant, record.job_id))
    assert content is not None
    assert read_record(content) == record


@given(SERVED)
@few
def test_what_is_served_loses_nothing_in_the_store(ledger: Ledger, served: ServedModel) -> None:
    ledger.publish_model(served)
    assert ledger.served_model(served.name) == served
    assert served.name in ledger.served_models()


@given(instances(Live), st.from_regex(r"[0-9a-f]{32}", fullmatch=True))
@few
def test_live_state_loses_nothing_in_redis(live: LiveState, state: Live, job: str) -> None:
    live.report(job, state)
    assert live.read(job) == state


# --- unknown fields ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "read"), [(ExplanationRequest, read_request), (ExplanationRecord, read_record)]
)
@given(data=st.data())
@fewer
def test_an_unknown_field_is_refused_wherever_it_stands(
    kind: type[Strict], read: Callable[[bytes], Strict], data: st.DataObject
) -> None:
    content = json.loads(data.draw(instances(kind)).model_dump_json())
    places = list(_objects(content))
    data.draw(st.sampled_from(places))["patient_name"] = "somebody"
    with pytest.raises(ValidationError):
        read(json.dumps(content).encode())


FREE = ("details", "versions", "seconds", "artifacts")
"""Fields whose keys are not ours to say."""


def _objects(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, dict):
        inner = [_objects(item) for name, item in value.items() if name not in FREE]
        return [value, *(found for items in inner for found in items)]
    if isinstance(value, list):
        return [found for item in value for found in _objects(item)]
    return []


# --- ids -----------------------------------------------------------------------------------------

PARTS: dict[str, st.SearchStrategy[Any]] = {
    **{
        name: values(ExplanationRequest, name)
        for name in ("tenant", "images", "messages", "targets", "given_answer", "options")
    },
    "model": SERVED,
    "nonce": st.none() | st.from_regex(r"[0-9a-f]{1,64}", fullmatch=True),
}
QUESTIONS = st.fixed_dictionaries(PARTS)


@given(QUESTIONS)
@fewer
def test_the_same_question_has_the_same_id_in_whatever_order_it_was_made(
    question: dict[str, Any],
) -> None:
    names = list(question)
    random.Random(0).shuffle(names)
    again: dict[str, Any] = {name: question[name] for name in names}
    for name, kind in (("images", ImageRef), ("messages", Message)):
        again[name] = tuple(
            kind.model_validate(dict(reversed(part.model_dump().items()))) for part in again[name]
        )
    assert re.fullmatch("[0-9a-f]{32}", job_id(**question))
    assert job_id(**again) == job_id(**question)


@pytest.mark.parametrize("changed", PARTS)
@given(data=st.data())
@fewer
def test_any_other_part_makes_another_id(changed: str, data: st.DataObject) -> None:
    question, other = data.draw(QUESTIONS), data.draw(PARTS[changed])
    if changed == "model":
        # How much it can take is no part of what was asked.
        kept = ("name", "revision", "method", "method_version")
        assume(any(getattr(question[changed], name) != getattr(other, name) for name in kept))
    assume(question[changed] != other)
    assert job_id(**{**question, changed: other}) != job_id(**question)


# --- keys ----------------------------------------------------------------------------------------

ANY = st.one_of(
    TEXT,
    st.text("./\\%\x00\n\r-0aA é", max_size=70),
    st.from_regex(r"[0-9a-f]{32}\n?", fullmatch=True),
    st.from_regex(r"[a-z0-9-]{1,64}", fullmatch=True),
    st.sampled_from(["..", "../..", "/", "", ".", "%2e%2e", "a/../b", "models", "１２"]),
)
SPELLINGS: dict[str, tuple[int, Callable[..., str]]] = {
    r"models/[^/]+\.json": (1, layout.model_key),
    r"[a-z0-9-]+/inputs/[0-9a-f]{64}\.png": (2, layout.input_key),
    r"[a-z0-9-]+/jobs/[0-9a-f]{32}/request\.json": (2, layout.request_key),
    r"[a-z0-9-]+/jobs/[0-9a-f]{32}/result\.json": (2, layout.result_key),
    r"[a-z0-9-]+/jobs/[0-9a-f]{32}/[0-9]+-[0-9a-f]+/[a-z0-9.-]+": (4, layout.artifact_key),
    r"[a-z0-9-]+/jobs/[0-9a-f]{32}/history/[0-9T]+-[0-9a-f]+\.json": (3, layout.history_key),
    r"[a-z0-9-]+/probe/[0-9a-f]+": (2, layout.probe_key),
}


@pytest.mark.parametrize(("shape", "spelling"), SPELLINGS.items())
@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_whatever_a_key_is_made_of_it_lies_in_its_place_or_is_none(
    shape: str, spelling: tuple[int, Callable[..., str]], data: st.DataObject
) -> None:
    number, spell = spelling
    # Right ones among them, so that single parts are tried, and not the first alone.
    right = ["local", "0" * 32, "1-ab", "overlay-0.png", "a" * 64, "20261122T120000-" + "0" * 16]
    parts = [data.draw(ANY | st.sampled_from(right)) for _ in range(number)]
    try:
        key = spell(*parts)
    except InvalidRequest:
        return
    assert re.fullmatch(shape, key)
    assert not {"", ".", ".."} & set(key.split("/"))


@given(SERVED, SERVED)
@few
def test_a_models_name_comes_back_from_its_key_and_is_no_others(
    one: ServedModel, other: ServedModel
) -> None:
    for served in (one, other):
        assert layout.model_name(layout.model_key(served.name)) == served.name
    if one.name != other.name:
        assert not set(queue_names(one.name)) & set(queue_names(other.name))


def test_names_that_would_share_a_key_are_not_both_names() -> None:
    assert layout.model_key("a/b") == "models/a--b.json"
    for name in ("a--b", "a-/b", "a/-b", "a//b", "/a", "a/", "a/../b", "-a"):
        with pytest.raises(InvalidRequest):
            layout.model_key(name)


def test_the_strategies_reach_every_attribute_of_an_image() -> None:
    """Else the properties above were shown of less than they say."""
    assert set(ImageAttributes.model_fields) == {
        *("source", "modality", "photometric", "bits_stored", "window", "spacing_mm"),
        *("left_of_image", "top_of_image", "frame", "frames", "plane"),
    }
