from __future__ import annotations

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from medgemma_tasks.errors import EmptyAnswer, KeywordNotInAnswer
from medgemma_worker.failures import as_error, error_record, trace
from tests.parts import JOB


class OutOfMemoryError(RuntimeError):
    """By its name the error of torch."""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (EmptyAnswer("It said nothing."), "empty_answer"),
        (SoftTimeLimitExceeded(), "time_limit"),
        (MemoryError(), "out_of_memory"),
        (OutOfMemoryError("CUDA"), "out_of_memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out_of_memory"),
        (RuntimeError("canary"), "internal_error"),
        (KeyError("canary"), "internal_error"),
    ],
)
def test_every_exception_has_a_code(error: Exception, code: str) -> None:
    ours = as_error(error, JOB)
    assert ours.code == code
    assert "canary" not in ours.message


def test_an_internal_error_says_where_to_look() -> None:
    assert JOB in as_error(ValueError("x"), JOB).message


def test_details_are_kept_where_json_can_hold_them() -> None:
    error = KeywordNotInAnswer("No.", keyword="x", answer="y")
    assert error_record(error).details == {"keyword": "x", "answer": "y"}
    assert error_record(EmptyAnswer("No.", wrong=object())).details == {}
    assert error_record(EmptyAnswer("No.", wrong=float("nan"))).details == {}


def test_a_trace_shows_code_and_nothing_of_the_data() -> None:
    canary = "canary-" + "text"
    try:
        try:
            raise ValueError(canary)
        except ValueError as cause:
            raise RuntimeError(canary) from cause
    except RuntimeError as error:
        text = trace(error)
    assert "builtins.RuntimeError" in text
    assert "builtins.ValueError" in text
    assert "test_failures.py" in text
    assert "canary-text" not in text
