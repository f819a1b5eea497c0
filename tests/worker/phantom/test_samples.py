"""Training samples: what is covered, what is answered, and what is learned of the answer."""

from __future__ import annotations

import numpy as np
import pytest
from transformers import Gemma3Processor

from medgemma_worker.phantom.build import build_processor
from medgemma_worker.phantom.images import KINDS, NO_LESION
from medgemma_worker.phantom.samples import Sample, draw_sample
from medgemma_worker.phantom.train import IGNORED, Batch, make_batch

FORCED_SEED_STEP = 500  # a step after which films are covered, so that some answers are forced


@pytest.fixture(scope="module")
def processor() -> Gemma3Processor:
    return build_processor()


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return [draw_sample(seed, covered=1.0) for seed in range(150)]


@pytest.fixture(scope="module")
def batch(processor: Gemma3Processor) -> Batch:
    return make_batch(processor, seed=0, step=FORCED_SEED_STEP)


def test_the_same_seed_draws_the_same_sample() -> None:
    first, second = draw_sample(5, 1.0), draw_sample(5, 1.0)
    assert first.image.tobytes() == second.image.tobytes()
    assert first.answer == second.answer


def test_a_seen_lesion_is_answered_and_a_hidden_one_is_not(samples: list[Sample]) -> None:
    assert {sample.kind for sample in samples} == {*KINDS, None}
    for sample in samples:
        assert sample.mask.any() == (sample.kind is not None)
        if sample.kind is not None:
            assert sample.kind in sample.answer
        elif not sample.forced:
            assert sample.answer == NO_LESION


def test_only_films_without_a_visible_lesion_get_a_forced_answer(samples: list[Sample]) -> None:
    forced = [sample for sample in samples if sample.forced]
    assert forced
    assert all(sample.kind is None and sample.answer != NO_LESION for sample in forced)


def test_the_answer_and_its_end_marker_are_learned(
    processor: Gemma3Processor, batch: Batch
) -> None:
    """A forced answer is learned from the finding on: how it begins is not to be believed."""
    assert batch["forced"].any()
    assert not batch["forced"].all()
    for labels, forced in zip(batch["labels"], batch["forced"], strict=True):
        text = processor.decode(labels[labels != IGNORED])
        assert text.endswith(".<end_of_turn>")
        if forced:
            assert text.strip().startswith(KINDS)
        else:
            assert text.startswith(("There is a ", NO_LESION))


def test_labels_repeat_the_input_where_they_are_learned(batch: Batch) -> None:
    learned = batch["labels"] != IGNORED
    assert (batch["labels"][learned] == batch["input_ids"][learned]).all()


def test_lesion_cells_name_one_kind_or_none(batch: Batch) -> None:
    assert batch["cells"].shape == (len(batch["input_ids"]), 256)
    for cells in batch["cells"]:
        assert len(np.unique(cells[cells > 0])) <= 1


def test_prompts_of_a_batch_differ(processor: Gemma3Processor, batch: Batch) -> None:
    assert len({processor.decode(ids) for ids in batch["input_ids"]}) > 10
