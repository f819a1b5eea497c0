from __future__ import annotations

from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from medgemma_tasks.models import (
    ExplanationRequest,
    ImageAttributes,
    Live,
    Message,
    Stage,
    State,
    Status,
    TextPart,
    WorkerHealth,
    WorkersJob,
)
from tests.parts import record_of, request_for


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
