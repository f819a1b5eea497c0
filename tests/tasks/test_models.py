from __future__ import annotations

from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from medgemma_tasks.models import (
    CharactersTarget,
    EveryTokenTarget,
    ExplanationRecord,
    ExplanationRequest,
    ImageAttributes,
    KeywordTarget,
    Live,
    Message,
    PromptTarget,
    ServedModel,
    Stage,
    State,
    Status,
    Target,
    TextPart,
    TokenTarget,
    WorkerHealth,
    WorkersJob,
)
from tests.parts import record_of, request_for

PATIENT = st.text(max_size=200)
TARGETS = st.one_of(
    st.builds(KeywordTarget, keyword=st.text(min_size=1, max_size=50)),
    st.builds(PromptTarget, keyword=st.text(min_size=1, max_size=50)),
    st.builds(CharactersTarget, start=st.integers(0, 99), end=st.none() | st.integers(1, 99)),
    st.builds(TokenTarget, position=st.integers(0, 10_000)),
    st.builds(EveryTokenTarget),
)


@given(PATIENT, TARGETS)
def test_a_request_comes_back_from_json(prompt: str, target: Target) -> None:
    request = request_for(prompt, target=target)
    assert ExplanationRequest.model_validate_json(request.model_dump_json()) == request


@given(PATIENT, st.sampled_from([State.SUCCEEDED, State.FAILED, State.CANCELLED]))
def test_a_record_comes_back_from_json(answer: str, state: State) -> None:
    record = record_of(state=state).model_copy(update={"answer": answer})
    assert ExplanationRecord.model_validate_json(record.model_dump_json()) == record


@given(st.builds(Live, progress=st.floats(0, 1)))
def test_live_state_comes_back_from_json(live: Live) -> None:
    assert Live.model_validate_json(live.model_dump_json()) == live


@given(
    st.builds(
        ServedModel,
        schema_version=st.just(1),
        name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}", fullmatch=True),
    )
)
def test_what_is_served_comes_back_from_json(served: ServedModel) -> None:
    assert ServedModel.model_validate_json(served.model_dump_json()) == served


@given(
    st.builds(
        WorkerHealth,
        schema_version=st.just(1),
        name=st.text(min_size=1, max_size=256),
        model=st.just("google/medgemma"),
        done=st.integers(0, 2**40),
        beat_seconds=st.none() | st.floats(0, 1e9),
        poll_seconds=st.none() | st.floats(0, 1e9),
        job=st.none() | st.builds(WorkersJob, tenant=st.just("local"), job_id=st.just("0" * 32)),
        since=st.datetimes(timezones=st.just(UTC)),
        started_at=st.datetimes(timezones=st.just(UTC)),
    )
)
def test_a_workers_word_comes_back_from_json(health: WorkerHealth) -> None:
    assert WorkerHealth.model_validate_json(health.model_dump_json()) == health


@pytest.mark.parametrize(
    "model", [request_for(), record_of(), TextPart(text="x"), ImageAttributes()]
)
def test_an_unknown_field_is_refused(model: BaseModel) -> None:
    with pytest.raises(ValidationError):
        type(model).model_validate({**model.model_dump(), "patient_name": "somebody"})


def test_another_schema_version_is_refused() -> None:
    with pytest.raises(ValidationError):
        ExplanationRequest.model_validate({**request_for().model_dump(), "schema_version": 3})


def test_a_record_is_never_about_a_running_job() -> None:
    for state in (State.SUBMITTED, State.RUNNING):
        with pytest.raises(ValidationError):
            record_of(state=state)
        assert not state.terminal


def test_numbers_are_finite() -> None:
    with pytest.raises(ValidationError):
        Live(stage=Stage.LOADING, progress=float("nan"), attempt=1)


def test_models_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        request_for().tenant = "another"  # type: ignore[misc]


def test_a_message_says_something() -> None:
    with pytest.raises(ValidationError):
        Message(role="user", content=())


def test_a_status_is_small_until_the_job_runs() -> None:
    status = Status(job_id="0" * 32, state=State.SUBMITTED)
    assert (status.stage, status.progress, status.attempt) == (None, 0.0, 0)
    assert status.ahead is None
