"""The engine in parts: what a queue overlaps, and what a request from end to end is made of."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from medgemma_tasks.errors import KeywordNotInAnswer, MedGemmaError, OutOfMemory
from medgemma_tasks.models import ExplanationRequest, KeywordTarget, Options
from medgemma_worker.explainer import MedGemmaExplainer
from medgemma_worker.phantom.images import Phantom, make_phantom
from medgemma_worker.pipeline import ModelEngine
from medgemma_worker.relevancy.methods import INTEGRATED
from tests.parts import request_for

PROMPT = "Is there a finding?"


@pytest.fixture(scope="module")
def engine(explainer: MedGemmaExplainer) -> ModelEngine:
    return ModelEngine(explainer.model, explainer.processor, name="phantom", revision="a")


def asked_of(film: Phantom, **changes: object) -> ExplanationRequest:
    return request_for(PROMPT, image=film.image).model_copy(update=changes)


def quiet(progress: Sequence[float]) -> Collection[int]:
    return ()


def test_the_parts_make_what_is_stored(engine: ModelEngine, phantom: Phantom) -> None:
    request = asked_of(phantom)
    (answered,) = engine.answer([engine.prepare(request, [phantom.image])], quiet)
    assert not isinstance(answered, MedGemmaError)
    parts = engine.finish(*engine.explain([answered], lambda progress: None))
    assert parts.answer == phantom.answer
    assert set(parts.files) == {"relevancy.npz", "heatmap-0.png", "overlay-0.png"}
    assert set(parts.seconds) == {"generating", "explaining", "measuring", "rendering"}


def test_a_shard_has_an_answer_or_an_error_for_each(engine: ModelEngine) -> None:
    films = [make_phantom(930_000 + i) for i in range(3)]
    requests = [
        asked_of(films[0]),
        asked_of(films[1], targets=(KeywordTarget(keyword="no such word"),)),
        asked_of(films[2], given_answer=films[2].answer),
    ]
    asked = [engine.prepare(r, [film.image]) for r, film in zip(requests, films, strict=True)]
    first, missing, given = engine.answer(asked, quiet)
    assert isinstance(missing, KeywordNotInAnswer)
    assert missing.details["answer"] == films[1].answer
    for film, answered in ((films[0], first), (films[2], given)):
        assert not isinstance(answered, MedGemmaError)
        assert engine.finish(*engine.explain([answered], lambda _: None)).answer == film.answer


def test_a_question_s_length_is_of_what_it_may_say(engine: ModelEngine, phantom: Phantom) -> None:
    few = asked_of(phantom, options=Options(max_new_tokens=7))
    prepared = engine.prepare(few, [phantom.image])
    assert engine.length(prepared) == 7
    given = asked_of(phantom, given_answer=phantom.answer)
    assert engine.length(engine.prepare(given, [phantom.image])) == 0


def test_answers_explained_together_get_what_each_gets_alone(engine: ModelEngine) -> None:
    films = [make_phantom(940_000 + i) for i in range(3)]
    options = [Options(), Options(method="rollout"), Options()]
    asked = [
        engine.prepare(asked_of(film, options=of_one), [film.image])
        for film, of_one in zip(films, options, strict=True)
    ]
    answered = engine.answer(asked, quiet)
    together = engine.explain(answered, lambda _: None)
    for one, among in zip(answered, together, strict=True):
        (alone,) = engine.explain([one], lambda _: None)
        for result, other in zip(among.results, alone.results, strict=True):
            assert result.metadata["method"] == other.metadata["method"]
            scale = other.image_scores.max()
            assert np.abs(result.image_scores - other.image_scores).max() <= 1e-5 * scale


def test_what_explaining_takes_grows_with_positions_and_passes(engine: ModelEngine) -> None:
    film = make_phantom(950_000)
    asked = [
        engine.prepare(asked_of(film, options=options, given_answer=film.answer), [film.image])
        for options in (Options(), Options(areas=True), Options(method=INTEGRATED))
    ]
    plain, areas, integrated = map(engine.weight, engine.answer(asked, quiet))
    assert plain < areas
    assert plain < integrated


@contextmanager
def failing(model: torch.nn.Module, error: Exception) -> Iterator[None]:
    def fail(*_: object) -> None:
        raise error

    hook = model.register_forward_pre_hook(fail)
    try:
        yield
    finally:
        hook.remove()


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_a_full_device_is_said_of_the_batch_and_of_the_explanation(
    engine: ModelEngine, explainer: MedGemmaExplainer, phantom: Phantom, error: Exception
) -> None:
    asked = [engine.prepare(asked_of(phantom), [phantom.image])] * 2
    with failing(explainer.model, error), pytest.raises(OutOfMemory):
        engine.answer(asked, quiet)
    (answered, _) = engine.answer(asked, quiet)
    assert not isinstance(answered, MedGemmaError)
    with failing(explainer.model, error), pytest.raises(OutOfMemory):
        engine.explain([answered], lambda _: None)


def test_another_error_of_the_device_is_left_as_it_is(
    engine: ModelEngine, explainer: MedGemmaExplainer, phantom: Phantom
) -> None:
    asked = [engine.prepare(asked_of(phantom), [phantom.image])]
    with failing(explainer.model, RuntimeError("a bug")), pytest.raises(RuntimeError, match="bug"):
        engine.answer(asked, quiet)
