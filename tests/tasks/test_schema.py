from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from medgemma_tasks.models import ErrorRecord, KeywordTarget, State
from medgemma_tasks.schema import FOLDER, schemas, text
from tests.parts import picture, record_of, request_for
from tests.stub_engine import StubEngine, explain

NAMES = ("request.schema.json", "result.schema.json")


def published(name: str) -> Any:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_the_published_schema_is_that_of_the_models(name: str) -> None:
    """If this fails, run python -m medgemma_tasks.schema."""
    assert (FOLDER / name).read_text(encoding="utf-8") == text(schemas()[name])


@pytest.mark.parametrize("name", NAMES)
def test_the_published_schema_is_a_schema(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(published(name))


def test_a_request_is_valid() -> None:
    request = request_for(target=KeywordTarget(keyword="pneumothorax"))
    jsonschema.validate(request.model_dump(mode="json"), published("request.schema.json"))


def test_results_of_every_state_are_valid() -> None:
    request = request_for()
    explained = explain(request, [picture()], StubEngine().served)
    fields = ("answer", "targets", "images", "tokens", "consistency", "model")
    succeeded = record_of().model_copy(update={name: getattr(explained, name) for name in fields})
    error = ErrorRecord(code="out_of_memory", message="Too little memory.")
    for record in (
        succeeded,
        record_of(state=State.FAILED).model_copy(update={"error": error}),
        record_of(state=State.CANCELLED),
    ):
        jsonschema.validate(record.model_dump(mode="json"), published("result.schema.json"))


def test_an_unknown_field_is_not_valid() -> None:
    wrong = {**request_for().model_dump(mode="json"), "patient": "somebody"}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, published("request.schema.json"))
