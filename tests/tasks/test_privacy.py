"""No patient text in a repr, a log or an error, whatever it is a part of."""

from __future__ import annotations

import importlib
import logging
import pkgutil
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from medgemma_tasks import models
from medgemma_tasks.errors import InvalidRequest
from medgemma_tasks.ledger import InputNote
from medgemma_tasks.making import make
from medgemma_tasks.models import ExplanationRequest, ManifestLine, Strict
from medgemma_tasks.models.base import Discreet
from medgemma_tasks.queue import Shard
from medgemma_worker.failures import trace
from tests.instances import instances
from tests.parts import JOB, request_for

CANARY = "canary Müller, Eva *1950-01-01"
TEXT = st.text(max_size=10).map(lambda text: f"{CANARY} {text}")

MODELS = sorted(
    {
        kind
        for kind in (*vars(models).values(), Shard, InputNote)
        if isinstance(kind, type) and issubclass(kind, Discreet) and kind not in (Discreet, Strict)
    },
    key=lambda kind: kind.__name__,
)


def said_of(value: object) -> str:
    """All the ways in which a value becomes text by mistake."""
    logged: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: logged.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("tests.privacy")
    log.propagate = False
    log.addHandler(handler)
    try:
        log.error("%s %r", value, value)
    finally:
        log.removeHandler(handler)
    return " ".join((repr(value), str(value), f"{value} {value!r}", str([value]), *logged))


@pytest.mark.parametrize("kind", MODELS)
@given(data=st.data())
@settings(max_examples=15, suppress_health_check=list(HealthCheck))
def test_no_model_shows_a_text_that_it_holds(kind: type[Discreet], data: st.DataObject) -> None:
    made = data.draw(instances(kind, TEXT))
    said = said_of(made)
    assert kind.__name__ in said
    assert "canary" not in said


def test_what_others_added_to_a_line_of_a_manifest_is_not_shown_either() -> None:
    line = ManifestLine.model_validate({"job": JOB, "file": CANARY})
    assert said_of(line).count(JOB) == said_of(line).count("job")
    assert "canary" not in said_of(line)


def test_a_model_shows_which_job_it_is_of() -> None:
    request = request_for(CANARY)
    assert repr(request) == f"ExplanationRequest(job_id='{request.job_id}', tenant='local')"


@pytest.mark.parametrize("kind", MODELS)
def test_no_error_of_validation_quotes_what_was_wrong(kind: type[Discreet]) -> None:
    names = [field.alias or name for name, field in kind.model_fields.items()]
    for wrong in (CANARY, [CANARY], {"kind": [CANARY]}, {CANARY}):
        with pytest.raises(ValidationError) as caught:
            kind.model_validate({**dict.fromkeys(names, wrong), "unknown": CANARY})
        assert "canary" not in said_of(caught.value)
        assert "canary" not in trace(caught.value)


def test_what_cannot_be_made_of_what_a_caller_said_is_told_without_quoting_it() -> None:
    for wrong in (CANARY, [{"kind": CANARY}], {CANARY: CANARY}, [{"content": [{"type": CANARY}]}]):
        names: dict[str, Any] = dict.fromkeys(ExplanationRequest.model_fields, wrong)
        with pytest.raises(InvalidRequest) as caught:
            make(ExplanationRequest, "request", **names, **{CANARY: 1})
        assert "messages" in caught.value.message
        assert "canary" not in said_of(caught.value)
        assert caught.value.__suppress_context__


def test_a_trace_holds_neither_a_message_nor_a_value() -> None:
    answer = CANARY
    try:
        try:
            raise ValueError(f"cannot use {answer}")
        except ValueError as inner:
            raise RuntimeError(answer) from inner
    except RuntimeError as error:
        said = trace(error)
    assert "RuntimeError" in said
    assert "ValueError" in said
    assert "canary" not in said


TEXTS = {
    *("text", "answer", "prompt", "keyword", "prompt_words", "given_answer", "thinking"),
    *("generated_text", "labels", "token_labels", "title", "content", "metadata", "env"),
}
"""Names of fields that hold what was asked or answered, or credentials."""

NOBODYS = (
    "medgemma_worker.phantom.",
    "medgemma_tasks.sheet._P",
    "medgemma_tasks.sheet.Pen.",
    "medgemma_tasks.boxes_picture._Plan.",
    "medgemma_client.report.targets.Share.",
)
"""Where they hold nobody's: a phantom's answer, the size of letters, a percentage."""


def dataclasses_of_ours() -> Iterator[type]:
    for root in ("medgemma_tasks", "medgemma_client", "medgemma_worker", "medgemma_cli"):
        package = importlib.import_module(root)
        for module in pkgutil.walk_packages(package.__path__, f"{root}."):
            if not module.name.endswith(("__main__", "schema")):
                for kind in vars(importlib.import_module(module.name)).values():
                    if isinstance(kind, type) and is_dataclass(kind):
                        yield kind


def test_no_dataclass_with_patient_text_has_a_repr_that_shows_it() -> None:
    kinds = {kind for kind in dataclasses_of_ours() if kind.__module__.startswith("medgemma_")}
    telling = {
        name
        for kind in kinds
        for field in fields(kind)
        if field.name in TEXTS and field.repr and "__repr__" in vars(kind)
        if not (name := f"{kind.__module__}.{kind.__qualname__}.{field.name}").startswith(NOBODYS)
    }
    assert len(kinds) > 30
    assert telling == set()


def test_every_model_but_the_settings_is_a_discreet_one() -> None:
    """Another would show all it holds. The settings have secrets of a type that does not show."""
    kinds = {
        kind
        for name in ("medgemma_tasks", "medgemma_client", "medgemma_worker", "medgemma_cli")
        for module in pkgutil.walk_packages(importlib.import_module(name).__path__, f"{name}.")
        if not module.name.endswith(("__main__", "schema"))
        for kind in vars(importlib.import_module(module.name)).values()
        if isinstance(kind, type) and issubclass(kind, BaseModel)
    }
    ours = {kind for kind in kinds if kind.__module__.startswith("medgemma_")}
    loose = {kind.__name__ for kind in ours if not issubclass(kind, Discreet)}
    assert loose == {"Settings"}
