"""Questions of different lengths answered together by the phantom, and explained."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from medgemma_tasks.errors import (
    JobCancelled,
    KeywordNotInAnswer,
    MedGemmaError,
    TokenOutOfRange,
)
from medgemma_tasks.models import (
    AnswerTarget,
    KeywordTarget,
    Options,
    PromptTarget,
    TokenTarget,
)
from medgemma_worker.conversation import Prepared
from medgemma_worker.explainer import MedGemmaExplainer
from medgemma_worker.explaining import Answered
from medgemma_worker.phantom.images import make_phantom
from medgemma_worker.question import Question, ask

PROMPT = "Is there a finding?"


def film(n: int):  # type: ignore[no-untyped-def]
    return make_phantom(920_000 + n).image


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    """Eight: 1 to 3 images, own limits, one whose answer is given, one of a single token."""
    return [
        ask(film(0), PROMPT),
        ask([film(1), film(2)], ["Before:", 0, "After:", 1, "What has changed?"]),
        ask(film(3), PROMPT, answer=make_phantom(920_003).answer),
        ask(
            film(4), "Describe this film in a few words, please.", options=Options(max_new_tokens=3)
        ),
        ask(film(5), PROMPT, [PromptTarget(keyword="finding"), AnswerTarget()], system="Be brief."),
        ask([film(6), film(7), film(8)], "Compare these films."),
        ask(film(9), PROMPT, options=Options(max_new_tokens=1)),
        ask(film(10), PROMPT, options=Options(pad_to_square=False)),
    ]


def quiet(progress: Sequence[float]) -> Collection[int]:
    return ()


def prepared(explainer: MedGemmaExplainer, questions: Sequence[Question]) -> list[Prepared]:
    return [explainer.prepare(question) for question in questions]


def tokens(answered: Answered | MedGemmaError) -> list[int]:
    assert isinstance(answered, Answered)
    return [int(token) for token in answered.sequence.ids]


def test_eight_questions_get_the_tokens_and_maps_that_each_gets_alone(explainer, questions) -> None:
    asked = prepared(explainer, questions)
    assert len({one.prompt.length for one in asked}) >= 4
    together = explainer.answer(asked, quiet)
    for one, among in zip(asked, together, strict=True):
        (alone,) = explainer.answer([one], quiet)
        assert tokens(among) == tokens(alone)
        for result, other in zip(
            *explainer.explain_answers([among]), *explainer.explain_answers([alone]), strict=True
        ):
            assert result.spans == other.spans
            assert result.consistency == other.consistency
            scale = other.image_scores.max()
            assert np.abs(result.image_scores - other.image_scores).max() <= 1e-5 * scale
            assert np.abs(result.text_scores - other.text_scores).max() <= 1e-5 * scale
            assert len(result.text_scores) == len(other.text_scores)
    by_limit = [
        len(tokens(one)) - ready.prompt.length for one, ready in zip(together, asked, strict=True)
    ]
    assert (by_limit[3], by_limit[6]) == (3, 1)


def test_explained_together_too_nothing_lies_on_padding(explainer, questions) -> None:
    for question, results in zip(questions, explainer.run_many(questions), strict=True):
        (alone,) = explainer.answer([explainer.prepare(question)], quiet)
        (others,) = explainer.explain_answers([alone])
        for result, other in zip(results, others, strict=True):
            assert result.metadata["seq_len"] == other.metadata["seq_len"]
            assert list(result.text_positions) == list(other.text_positions)
            assert np.isfinite(result.text_scores).all()
            scale = other.image_scores.max()
            assert np.abs(result.image_scores - other.image_scores).max() <= 1e-5 * scale
            assert np.abs(result.text_scores - other.text_scores).max() <= 1e-5 * scale


def test_one_question_s_error_is_its_own(explainer) -> None:
    targets = [
        AnswerTarget(),
        KeywordTarget(keyword="no such word"),
        TokenTarget(position=20),
        AnswerTarget(),
    ]
    asked = prepared(explainer, [ask(film(i), PROMPT, [t]) for i, t in enumerate(targets)])
    good, missing, inside, last = explainer.answer(asked, quiet)
    assert isinstance(missing, KeywordNotInAnswer)
    assert missing.details["answer"] == make_phantom(920_001).answer
    assert isinstance(inside, TokenOutOfRange)
    for i, answered in ((0, good), (3, last)):
        assert tokens(answered) == tokens(explainer.answer([asked[i]], quiet)[0])


def test_a_question_that_is_dropped_is_cancelled_and_the_others_are_answered(explainer) -> None:
    asked = prepared(explainer, [ask(film(i), PROMPT) for i in range(3)])
    whole = [tokens(one) for one in explainer.answer(asked, quiet)]

    def tell(progress: Sequence[float]) -> Collection[int]:
        return {1} if progress[1] > 0.01 else ()

    first, dropped, last = explainer.answer(asked, tell)
    assert isinstance(dropped, JobCancelled)
    assert [tokens(first), tokens(last)] == [whole[0], whole[2]]


def test_progress_counts_a_given_answer_as_done(explainer) -> None:
    given = ask(film(0), PROMPT, answer=make_phantom(920_000).answer)
    asked = prepared(explainer, [given, ask(film(1), PROMPT)])
    seen: list[list[float]] = []

    def tell(progress: Sequence[float]) -> Collection[int]:
        seen.append(list(progress))
        return ()

    assert all(isinstance(one, Answered) for one in explainer.answer(asked, tell))
    assert {row[0] for row in seen} == {1.0}
    assert (seen[0][1], seen[-1][1]) == (0.0, 1.0)


def test_the_vision_tower_looks_at_each_picture_once(explainer) -> None:
    looked: list[int] = []
    hook = explainer.model.model.vision_tower.register_forward_pre_hook(
        lambda module, args, kwargs: looked.append(len(kwargs["pixel_values"])), with_kwargs=True
    )
    try:
        explainer.run_many([ask([film(0), film(1)], "Compare."), ask(film(2), PROMPT)])
    finally:
        hook.remove()
    assert looked == [2, 1]


def test_questions_are_made_ready_by_several_threads_at_once(explainer, questions) -> None:
    expected = [one.prompt.input_ids.tolist() for one in prepared(explainer, questions)]

    def ready(i: int) -> list[list[int]]:
        return explainer.prepare(questions[i % 8]).prompt.input_ids.tolist()

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(ready, range(64)))
    assert found == expected * 8


def test_no_two_threads_are_in_the_tokenizer_at_once(explainer, questions, monkeypatch) -> None:
    tokenizer = type(explainer.processor.tokenizer)
    inside, most = 0, 0
    watching = threading.Lock()

    def watched(name: str) -> None:
        plain = getattr(tokenizer, name)

        def used(*args, **kwargs):  # type: ignore[no-untyped-def]
            nonlocal inside, most
            with watching:
                inside += 1
                most = max(most, inside)
            time.sleep(0.002)  # long enough for the others to come, were they let in
            try:
                return plain(*args, **kwargs)
            finally:
                with watching:
                    inside -= 1

        monkeypatch.setattr(tokenizer, name, used)

    watched("_encode_plus")
    watched("_decode")
    given = ask(film(0), PROMPT, answer=make_phantom(920_000).answer)
    with ThreadPoolExecutor(8) as threads:
        jobs = [threads.submit(explainer.prepare, question) for question in [*questions, given] * 2]
        (answered,) = explainer.answer([explainer.prepare(given)], quiet)
        assert all(job.result() for job in jobs)
    assert isinstance(answered, Answered)
    assert most == 1
