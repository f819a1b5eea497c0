from __future__ import annotations

import pickle

import pytest

from medgemma_tasks.errors import (
    KeywordNotInAnswer,
    MedGemmaError,
    error_classes,
    error_from_code,
)


def all_kinds() -> list[type[MedGemmaError]]:
    found, left = [], [MedGemmaError]
    while left:
        kind = left.pop()
        found.append(kind)
        left.extend(kind.__subclasses__())
    return found


def test_every_error_has_a_code_of_its_own() -> None:
    assert len(error_classes()) == len(all_kinds())


@pytest.mark.parametrize("kind", all_kinds())
def test_an_error_is_rebuilt_from_its_record(kind: type[MedGemmaError]) -> None:
    error = error_from_code(kind.code, "What was wrong.", {"position": 3})
    assert type(error) is kind
    assert (error.message, error.details, str(error)) == (
        "What was wrong.",
        {"position": 3},
        "What was wrong.",
    )


def test_a_code_of_a_newer_version_gives_the_base() -> None:
    assert type(error_from_code("from_the_future", "x", {})) is MedGemmaError


def test_an_error_keeps_its_details_through_pickling() -> None:
    error = KeywordNotInAnswer("It is not there.", keyword="x", answer="y")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is KeywordNotInAnswer
    assert copy.details == {"keyword": "x", "answer": "y"}
