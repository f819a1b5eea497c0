"""Several prompts decoded together, on random models in the true class."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cache

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import Gemma3ForConditionalGeneration, GenerationConfig

from medgemma_worker.generation import Embedded, generate, generate_many
from medgemma_worker.recording import Recorded, places_recorded, rows_recorded
from medgemma_worker.relevancy.attention import install
from medgemma_worker.relevancy.explain import Passage, embed, explain
from tests.worker.tiny import Tiny, tiny_case, tiny_model

LIMITS = [5, 40, 60, 12, 1, 33, 20, 21]
WINDOWS = [4096, 24]
"""Above all lengths, and below them, so that windows are full and go round."""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def model_of(window: int) -> Gemma3ForConditionalGeneration:
    model = tiny_model(seeing=True, window=window)
    install(model)
    return model


def cases_of(model: Gemma3ForConditionalGeneration) -> list[Tiny]:
    """Eight prompts of 13 to 97 tokens with 0 to 3 images, two of them of one length."""
    cases = [tiny_case(model, images=i % 4, seed=i, answer=3 * i) for i in range(7)]
    return [*cases, tiny_case(model, images=2, seed=90, answer=6)]


def embedded(case: Tiny) -> Embedded:
    return Embedded(embed(case.model, case.ids, case.kinds, case.pixels), case.kinds)


def quiet(progress: Sequence[float]) -> Collection[int]:
    return ()


def alone(case: Tiny, limit: int) -> list[int]:
    return generate(case.model, embedded(case), max_new_tokens=limit, tell=lambda _: None)


@pytest.mark.parametrize("window", WINDOWS)
def test_a_batch_says_what_each_prompt_is_answered_alone(window: int) -> None:
    model = model_of(window)
    cases = cases_of(model)
    together = generate_many(model, [embedded(case) for case in cases], LIMITS, tell=quiet)
    assert together == [alone(case, limit) for case, limit in zip(cases, LIMITS, strict=True)]
    assert [len(said) for said in together] == LIMITS


@pytest.mark.parametrize("window", WINDOWS)
def test_and_that_is_what_transformers_generates(window: int) -> None:
    model = model_of(window)
    for case, limit in zip(cases_of(model), LIMITS, strict=True):
        config = GenerationConfig(
            do_sample=False, max_new_tokens=limit, eos_token_id=1, pad_token_id=0, bos_token_id=2
        )
        said = model.generate(
            input_ids=case.ids,
            attention_mask=torch.ones_like(case.ids),
            token_type_ids=case.kinds,
            pixel_values=case.pixels,
            generation_config=config,
        )
        assert alone(case, limit) == said[0, case.ids.shape[1] :].tolist()


@given(
    shapes=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 40), st.integers(1, 12)), min_size=1, max_size=5
    ),
    window=st.sampled_from(WINDOWS),
)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_the_lengths(shapes: list[tuple[int, int, int]], window: int) -> None:
    model = model_of(window)
    cases = [
        tiny_case(model, images=images, seed=seed, answer=words)
        for seed, (images, words, _) in enumerate(shapes)
    ]
    limits = [limit for _, _, limit in shapes]
    together = generate_many(model, [embedded(case) for case in cases], limits, tell=quiet)
    assert together == [alone(case, limit) for case, limit in zip(cases, limits, strict=True)]


def ending_with(model: Gemma3ForConditionalGeneration, end: int) -> Callable[[], None]:
    before = model.generation_config.eos_token_id
    model.generation_config.eos_token_id = end
    return lambda: setattr(model.generation_config, "eos_token_id", before)


def test_each_row_ends_at_its_own_end_marker() -> None:
    model = model_of(WINDOWS[0])
    cases = cases_of(model)
    whole = [alone(case, 40) for case in cases]
    end = whole[2][7]
    undo = ending_with(model, end)
    try:
        together = generate_many(model, [embedded(c) for c in cases], [40] * 8, tell=quiet)
    finally:
        undo()
    for said, unended in zip(together, whole, strict=True):
        cut = unended.index(end) + 1 if end in unended else 40
        assert said == unended[:cut]
    assert len({len(said) for said in together}) > 1


def test_a_row_that_ends_at_once_is_its_end_marker_alone() -> None:
    model = model_of(WINDOWS[0])
    cases = cases_of(model)[:3]
    first = alone(cases[1], 1)
    undo = ending_with(model, first[0])
    try:
        together = generate_many(model, [embedded(c) for c in cases], [4] * 3, tell=quiet)
    finally:
        undo()
    assert together[1] == first


def test_a_dropped_row_stops_and_the_others_are_unchanged() -> None:
    model = model_of(WINDOWS[1])
    cases, steps = cases_of(model), 0
    whole = [alone(case, 20) for case in cases]

    def tell(progress: Sequence[float]) -> Collection[int]:
        nonlocal steps
        steps += progress[0] > 0
        return {2, 5} if progress[0] >= 0.5 else ()

    together = generate_many(model, [embedded(case) for case in cases], [20] * 8, tell=tell)
    assert [len(said) for said in together] == [20, 20, 10, 20, 20, 10, 20, 20]
    assert [said == w[: len(said)] for said, w in zip(together, whole, strict=True)] == [True] * 8
    assert steps == 20


def test_a_batch_that_nobody_wants_any_more_ends() -> None:
    model = model_of(WINDOWS[0])
    told: list[float] = []

    def tell(progress: Sequence[float]) -> Collection[int]:
        told.append(progress[0])
        return {0, 1} if progress[0] >= 0.1 else ()

    rows = [embedded(case) for case in cases_of(model)[:2]]
    together = generate_many(model, rows, [50, 50], tell=tell)
    assert [len(said) for said in together] == [5, 5]
    assert told[-1] == 0.1


def test_progress_is_each_row_s_own_and_an_error_in_telling_ends_the_batch() -> None:
    model = model_of(WINDOWS[0])
    seen: list[list[float]] = []

    def tell(progress: Sequence[float]) -> Collection[int]:
        seen.append(list(progress))
        if progress[1] >= 0.5:
            raise InterruptedError
        return ()

    rows = [embedded(case) for case in cases_of(model)[:2]]
    with pytest.raises(InterruptedError):
        generate_many(model, rows, [2, 10], tell=tell)
    assert [row for row in seen if row[1]] == [[0.5, 0.1], [1, 0.2], [1, 0.3], [1, 0.4], [1, 0.5]]


def as_it_is(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Fixed shapes, and no recording."""
    step()  # as a recording does, before there is a prompt
    return step


@pytest.mark.parametrize("window", WINDOWS)
def test_steps_over_fixed_shapes_say_the_same_batch_after_batch(window: int) -> None:
    model = model_of(window)
    decoder = Recorded(model, as_it_is)
    cases = cases_of(model)
    rows = [embedded(case) for case in cases]
    for some in (slice(0, 8), slice(3, 8), slice(0, 8), slice(1, 2)):
        plain = generate_many(model, rows[some], LIMITS[some], tell=quiet)
        assert plain == generate_many(model, rows[some], LIMITS[some], tell=quiet, decoder=decoder)
    assert len(decoder._recorded) == 2  # 8 rows, in which 5 find room too, and 1


def test_a_recording_that_fails_is_said_once_and_plain_steps_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
        raise RuntimeError("operation not permitted in /some/file")

    model = model_of(WINDOWS[0])
    decoder = Recorded(model, fail)
    decoder.warm()
    case = cases_of(model)[1]
    for _ in range(2):
        (said,) = generate_many(model, [embedded(case)], [9], tell=quiet, decoder=decoder)
        assert said == alone(case, 9)
    (record,) = caplog.records
    assert "cannot be recorded (RuntimeError" in record.getMessage()
    assert "/some/file" not in caplog.text


def test_without_memory_for_a_recording_none_is_made_this_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = model_of(WINDOWS[0])
    decoder = Recorded(model, as_it_is)
    monkeypatch.setattr("medgemma_worker.recording.free_bytes", lambda device: 1000)
    assert not decoder.room(2, 50).whole
    monkeypatch.undo()
    kept = decoder.room(2, 50)
    assert kept.whole
    assert decoder.room(2, 60) is kept
    decoder.release()
    assert decoder.room(2, 60) is not kept
    assert not caplog.records


def test_few_recordings_are_kept_the_last_used_ones() -> None:
    decoder = Recorded(model_of(WINDOWS[0]), as_it_is)
    first = decoder.room(1, 10)
    second = decoder.room(2, 10)
    for rows in (4, 8, 1, 16):
        decoder.room(rows, 10)
    assert decoder.room(1, 10) is first
    assert decoder.room(2, 10) is not second
    assert [rows_recorded(n) for n in (1, 2, 3, 5, 8)] == [1, 2, 4, 8, 8]
    assert [places_recorded(n) for n in (1, 256, 257, 2048, 2049)] == [256, 256, 512, 2048, 4096]


def passage_of(case: Tiny, said: Sequence[int]) -> Passage:
    new = torch.tensor([said])
    kinds = torch.nn.functional.pad(case.kinds, (0, len(said)))
    ids = torch.cat([case.ids, new], dim=1)
    return Passage(embed(case.model, ids, kinds, case.pixels), kinds, ids[0])


@pytest.mark.parametrize("window", WINDOWS)
def test_what_a_batch_has_said_is_explained_together_as_alone(window: int) -> None:
    model = model_of(window)
    cases = cases_of(model)
    said = generate_many(model, [embedded(case) for case in cases], LIMITS, tell=quiet)
    passages = [passage_of(case, ids) for case, ids in zip(cases, said, strict=True)]
    targets = [[(passage.token_ids.numel() - 1,)] for passage in passages]
    for passage, target, (among,) in zip(
        passages, targets, explain(model, passages, targets), strict=True
    ):
        ((alone,),) = explain(model, [passage], [target])
        assert among.gained.shape == alone.gained.shape == (target[0][0],)  # and no padding
        assert torch.isfinite(among.gained).all()
        gap = (among.gained - alone.gained).abs().max()
        assert gap <= 1e-5 * alone.gained.abs().max()
