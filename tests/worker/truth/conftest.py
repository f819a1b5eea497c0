"""The shipped phantom, loaded once, and one of its questions with the answer frozen."""

from __future__ import annotations

from typing import Any

import pytest

from medgemma_worker.loading import load_medgemma
from medgemma_worker.truth.frozen import Frozen, freeze
from medgemma_worker.truth.questions import Question, phantoms


@pytest.fixture(scope="module")
def loaded() -> tuple[Any, Any]:
    model, processor, _ = load_medgemma("phantom", device="cpu")
    return model, processor


@pytest.fixture(scope="module")
def question() -> Question:
    return next(phantoms(1, seed=420_000))


@pytest.fixture(scope="module")
def frozen(loaded: tuple[Any, Any], question: Question) -> Frozen:
    return freeze(*loaded, question, max_new_tokens=30)
