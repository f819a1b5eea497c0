"""MedGemmaExplainer beyond the seed's API, on the shipped phantom: many targets, given answers,
text around images, batches."""

from __future__ import annotations

import numpy as np
import pytest

from medgemma_tasks.errors import (
    CharactersOutOfRange,
    EmptyAnswer,
    InvalidRequest,
    KeywordNotInAnswer,
    KeywordNotInPrompt,
    OutOfMemory,
    ReservedToken,
    SequenceTooLong,
    TokenOutOfRange,
)
from medgemma_tasks.models import (
    AnswerTarget,
    EveryTokenTarget,
    KeywordTarget,
    Options,
    PromptTarget,
    Stage,
    Target,
    TokenTarget,
)
from medgemma_worker.generation import generate_many
from medgemma_worker.phantom.images import make_phantom, overlaps_cell
from medgemma_worker.question import ask

PROMPT = "Is there a finding?"


@pytest.fixture
def decoded_nothing(explainer, monkeypatch):  # type: ignore[no-untyped-def]
    def generated(*args, **kwargs):  # type: ignore[no-untyped-def]
        raise AssertionError("an answer was generated")

    monkeypatch.setattr("medgemma_worker.answering.generate_many", generated)


def test_several_keywords_in_one_call_give_what_each_gives_alone(explainer, phantom) -> None:
    words = ["consolidation", "zone"]
    together = explainer.explain_keywords(phantom.image, PROMPT, words)
    assert [result.spans[0].text for result in together] == words
    for word, result in zip(words, together, strict=True):
        alone = explainer.explain_keyword(phantom.image, PROMPT, word).image_scores
        assert np.abs(result.image_scores - alone).max() <= 1e-5 * alone.max()


def test_every_token_of_the_answer_has_a_map_of_its_own(explainer, phantom) -> None:
    results = explainer.explain_tokens(phantom.image, PROMPT)
    assert "".join(result.spans[0].text for result in results).strip() == phantom.answer
    positions = [result.metadata["target_token_position"] for result in results]
    assert positions == list(range(positions[0], positions[0] + len(positions)))
    alone = explainer.explain(phantom.image, PROMPT, target_token_position=positions[3])
    assert np.abs(results[3].image_scores - alone.image_scores).max() <= 1e-5


def test_every_token_is_generated_and_passed_forward_once(explainer, phantom, monkeypatch) -> None:
    calls = {"explaining passes": 0, "generations": 0}

    def passed(module, args, kwargs) -> None:  # type: ignore[no-untyped-def]
        calls["explaining passes"] += "relevancy_capture" in kwargs

    def generated(*args, **kwargs):  # type: ignore[no-untyped-def]
        calls["generations"] += 1
        return generate_many(*args, **kwargs)

    monkeypatch.setattr("medgemma_worker.answering.generate_many", generated)
    hook = explainer.model.register_forward_pre_hook(passed, with_kwargs=True)
    try:
        assert len(explainer.explain_tokens(phantom.image, PROMPT)) > 5
    finally:
        hook.remove()
    assert calls == {"explaining passes": 1, "generations": 1}


def test_characters_of_the_answer_are_the_tokens_that_gave_them(explainer, phantom) -> None:
    start = phantom.answer.index("consolidation")
    end = start + len("consolidation")
    word = explainer.explain_keyword(phantom.image, PROMPT, "consolidation")
    span = explainer.explain_answer_span(phantom.image, PROMPT, start, end)
    assert span.spans[0].token_positions == word.spans[0].token_positions
    assert np.array_equal(span.image_scores, word.image_scores)
    part = explainer.explain_answer_span(phantom.image, PROMPT, start + 1, start + 2)
    assert part.spans[0].token_positions == word.spans[0].token_positions[:1]
    rest = explainer.explain_answer_span(phantom.image, PROMPT, start)
    assert rest.spans[0].text == phantom.answer[start:]


@pytest.mark.parametrize("place", [(0, 1000), (5, 5), (7, 3)])
def test_characters_that_are_not_there_are_refused(explainer, phantom, place) -> None:
    with pytest.raises(CharactersOutOfRange) as caught:
        explainer.explain_answer_span(phantom.image, PROMPT, *place)
    assert caught.value.details["answer"] == phantom.answer


def test_a_word_of_the_prompt_is_explained_where_it_stands(explainer, phantom) -> None:
    result = explainer.explain_prompt(phantom.image, PROMPT, "finding")
    (span,) = result.spans
    assert (span.kind, span.text, span.char_start) == ("prompt", "finding", None)
    assert all(p < result.metadata["input_len"] for p in span.token_positions)
    assert "".join(span.tokens).strip() == "finding"
    assert result.image_scores.max() > 0
    assert "answer" not in result.text_roles
    with pytest.raises(KeywordNotInPrompt):
        explainer.explain_prompt(phantom.image, PROMPT, "consolidation")


def test_a_word_before_the_image_has_an_empty_map_of_it(explainer, phantom) -> None:
    before = explainer.explain_prompt(phantom.image, ["Look closely.", 0, PROMPT], "closely")
    assert not before.image_scores.any()
    assert before.text_scores.max() > 0


def test_words_between_images_see_the_images_before_them(explainer) -> None:
    films = [make_phantom(910_100 + i).image for i in range(2)]
    parts = ["Before:", 0, "and then", 1, "What has changed?"]
    between = explainer.explain_prompt(films, parts, "then")
    assert between.image_scores[0].max() > 0
    assert not between.image_scores[1].any()
    after = explainer.explain(films, parts)
    assert after.image_scores[0].max() > 0
    assert after.image_scores[1].max() > 0
    assert after.consistency.misses == 0


def test_the_words_of_a_system_prompt_can_be_asked_for(explainer, phantom) -> None:
    result = explainer.explain_prompt(phantom.image, PROMPT, "brief", system="Be brief.")
    assert result.spans[0].text == "brief"


@pytest.mark.usefixtures("decoded_nothing")
def test_a_given_answer_is_explained_and_nothing_is_generated(explainer, phantom) -> None:
    said = f"  {phantom.answer}\n"
    result = explainer.explain_keyword(phantom.image, PROMPT, "consolidation", answer=said)
    assert result.generated_text == phantom.answer
    assert result.metadata["answer_given"] is True
    assert overlaps_cell(phantom.mask, result.peak_cell())


def test_its_own_answer_given_is_explained_as_if_the_model_had_just_said_it(
    explainer, phantom
) -> None:
    own = explainer.explain(phantom.image, PROMPT)
    given = explainer.explain(phantom.image, PROMPT, answer=phantom.answer)
    assert given.spans[0].token_positions == own.spans[0].token_positions
    assert np.array_equal(given.image_scores, own.image_scores)
    assert given.consistency.misses == 0


def test_words_the_model_would_not_say_are_counted(explainer, phantom) -> None:
    other = phantom.answer.replace("consolidation", "nodule")
    assert other != phantom.answer
    assert explainer.explain(phantom.image, PROMPT, answer=other).consistency.misses > 0


@pytest.mark.usefixtures("decoded_nothing")
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("   ", EmptyAnswer),
        ("a <end_of_turn> b", ReservedToken),
        ("word " * 40_000, SequenceTooLong),
    ],
)
def test_an_answer_that_cannot_be_given_is_refused(explainer, phantom, answer, error) -> None:
    with pytest.raises(error):
        explainer.explain(phantom.image, PROMPT, answer=answer)


def test_questions_explained_together_get_what_each_gets_alone(explainer) -> None:
    films = [make_phantom(910_300 + i) for i in range(4)]
    targets: list[list[Target]] = [
        [AnswerTarget()],
        [EveryTokenTarget()],
        [PromptTarget(keyword="finding"), AnswerTarget()],
        [AnswerTarget()],
    ]
    questions = [
        ask(films[0].image, PROMPT, targets[0]),
        ask([films[1].image, films[0].image], "Compare these films.", targets[1]),
        ask(films[2].image, ["Is there a finding in this one?", 0], targets[2], system="Short."),
        ask(films[3].image, PROMPT, targets[3], options=Options(method="rollout")),
    ]
    together = explainer.run_many(questions)
    for question, results in zip(questions, together, strict=True):
        alone = explainer.run(question)
        assert len(results) == len(alone)
        for one, other in zip(results, alone, strict=True):
            assert one.spans == other.spans
            assert one.generated_text == other.generated_text
            scale = other.image_scores.max()
            assert np.abs(one.image_scores - other.image_scores).max() <= 1e-5 * scale + 1e-12
            assert np.abs(one.text_scores - other.text_scores).max() <= 1e-5
            assert one.shares.images == pytest.approx(other.shares.images, abs=1e-5)


def test_another_method_gives_another_map_and_says_so(explainer, phantom) -> None:
    plain = explainer.explain(phantom.image, PROMPT)
    other = explainer.explain(phantom.image, PROMPT, options=Options(method="attention-last"))
    assert other.metadata["method"] == "attention-last"
    assert not np.allclose(plain.image_scores, other.image_scores)
    with pytest.raises(InvalidRequest, match="no-such"):
        explainer.explain(phantom.image, PROMPT, options=Options(method="no-such"))


def test_nothing_to_explain_and_nothing_there_are_refused(explainer, phantom) -> None:
    with pytest.raises(InvalidRequest):
        explainer.run(ask(phantom.image, PROMPT, []))
    with pytest.raises(KeywordNotInAnswer):
        explainer.run(
            ask(phantom.image, PROMPT, [AnswerTarget(), KeywordTarget(keyword="no such word")])
        )
    with pytest.raises(TokenOutOfRange):  # an image's token
        explainer.run(ask(phantom.image, PROMPT, [TokenTarget(position=20)]))


def test_areas_are_measured_for_whoever_asks(explainer, phantom) -> None:
    def areas(method: str):  # type: ignore[no-untyped-def]
        options = Options(areas=True, method=method)
        return explainer.explain_keyword(
            phantom.image, PROMPT, "consolidation", options=options
        ).areas

    chefer, random = areas("chefer"), areas("random")
    assert chefer.log_p - chefer.log_p_covered > 1
    assert chefer.log_p == random.log_p
    assert chefer.deletion < random.deletion
    assert chefer.insertion > random.insertion
    assert explainer.explain_keyword(phantom.image, PROMPT, "consolidation").areas is None


def test_a_target_that_saw_no_image_has_no_areas(explainer, phantom) -> None:
    options = Options(areas=True)
    result = explainer.explain_prompt(
        phantom.image, ["Look closely.", 0, PROMPT], "closely", options=options
    )
    assert result.areas is None


def test_the_map_after_the_last_layer_is_the_map(explainer, phantom) -> None:
    target = KeywordTarget(keyword="consolidation")
    found = explainer.explain_layers(phantom.image, PROMPT, target, heads_of=5)
    plain = explainer.explain_keyword(phantom.image, PROMPT, "consolidation")
    assert found.maps.shape == (6, 1, 16, 16)
    assert np.abs(found.maps[-1] - plain.image_scores).max() <= 1e-5 * plain.image_scores.max()
    assert np.array_equal(found.maps[-1], found.result.image_scores)
    assert found.names[5] == "layer 5, global"
    assert found.heads.relevancy.shape == found.heads.attention.shape == (4, 1, 16, 16)
    assert found.sheet(phantom.image).width > phantom.image.width
    assert found.head_sheet(phantom.image).width > phantom.image.width


def test_layers_heads_and_images_that_are_not_there_are_refused(explainer, phantom) -> None:
    with pytest.raises(InvalidRequest, match="no layer 6"):
        explainer.explain_layers(phantom.image, PROMPT, heads_of=6)
    found = explainer.explain_layers(phantom.image, PROMPT)
    with pytest.raises(InvalidRequest):
        found.head_sheet(phantom.image)
    with pytest.raises(InvalidRequest):
        found.sheet(phantom.image, 1)


def test_patches_hold_what_their_token_has_and_vary_within_it(explainer, phantom) -> None:
    options = Options(resolution="patch")
    one, other = explainer.run(
        ask(
            phantom.image,
            PROMPT,
            [KeywordTarget(keyword="consolidation"), AnswerTarget()],
            options=options,
        )
    )
    for result in (one, other):
        fine, coarse = result.patch_scores[0], result.image_scores[0]
        side = len(fine) // 16
        windows = fine.reshape(16, side, 16, side)
        assert np.allclose(windows.sum(axis=(1, 3)), coarse, rtol=1e-4)
        assert (windows.std(axis=(1, 3)) / windows.mean(axis=(1, 3))).mean() > 0.05
    assert one.patch_scores.shape[1] > 16
    assert not np.allclose(one.patch_scores, other.patch_scores)
    assert explainer.explain(phantom.image, PROMPT).patch_scores is None


def test_a_job_of_many_targets_tells_how_far_it_is_and_can_be_stopped(explainer, phantom) -> None:
    question = ask(phantom.image, PROMPT, [EveryTokenTarget()])
    seen: list[float] = []

    def report(stage: Stage, progress: float) -> None:
        if stage is Stage.EXPLAINING:
            seen.append(progress)
            if progress > 0.5:
                raise InterruptedError

    with pytest.raises(InterruptedError):
        explainer.run(question, report)
    assert seen == sorted(seen)
    assert len(seen) > 3
    assert 0.5 < seen[-1] < 0.8


def test_what_cannot_fit_is_refused_before_it_begins(explainer, phantom, monkeypatch) -> None:
    monkeypatch.setattr("medgemma_worker.relevancy.memory.free_bytes", lambda device: 1000)
    with pytest.raises(OutOfMemory) as caught:
        explainer.explain(phantom.image, PROMPT)
    assert caught.value.details["needed"] > caught.value.details["free"] == 1000


def test_integrated_gradients_can_be_asked_for_alone_together_and_on_patches(explainer) -> None:
    films = [make_phantom(910_300 + i) for i in range(2)]
    options = Options(method="token-integrated-gradients", resolution="patch")
    questions = [ask(film.image, PROMPT, options=options) for film in films]
    for film, (result,) in zip(films, explainer.run_many(questions), strict=True):
        alone = explainer.explain(film.image, PROMPT, options=options)
        scale = alone.image_scores.max()
        assert np.abs(result.image_scores - alone.image_scores).max() <= 1e-4 * scale
        assert result.image_scores.min() >= 0
        assert result.shares.images == 1.0
        assert not result.text_scores.any()
        assert result.raw_image_relevancy.any()
        assert result.patch_scores.sum() == pytest.approx(result.image_scores.sum(), rel=1e-4)
