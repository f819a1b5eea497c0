"""A result keeps its numbers, scales them honestly, and survives a file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from medgemma_tasks.errors import InternalError, InvalidRequest, NonFiniteRelevancy
from medgemma_tasks.explanation import ExplanationResult, display_range, ordinary, text_range
from medgemma_tasks.models import Consistency, Shares, Span

LABELS = ["<bos>", "Is", " it", "?", "Yes", "\x00‮"]
ROLES = ["special", "prompt", "prompt", "prompt", "answer", "answer"]
TEXT = np.array([9.0, 1.0, 2.0, 3.0, 5.0, 1.5], np.float32)


def make(images: int = 1, **changes: Any) -> ExplanationResult:
    scores = np.random.default_rng(0).random((images, 16, 16)).astype(np.float32) * 0.01
    values: dict[str, Any] = {
        "image_scores": scores,
        "text_scores": TEXT,
        "text_positions": [0, 262, 263, 264, 270, 271],
        "text_roles": ROLES,
        "token_labels": LABELS,
        "generated_text": "Yes\x00",
        "own_relevancy": 0.25,
        "shares": Shares(images=0.5, prompt=0.25, answer=0.25, special=0.0),
        "consistency": Consistency(checked=2, misses=0),
        "spans": [Span(kind="answer", text="Yes", token_positions=(270,), tokens=("Yes",))],
        "metadata": {"seq_len": np.int64(272), "prompt": "Is it?", "target_token": "Yes"},
    }
    return ExplanationResult.from_scores(**(values | changes))


def test_one_image_has_a_plain_map_scaled_to_its_own_ends() -> None:
    result = make()
    assert result.image_relevancy.shape == (16, 16)
    assert result.image_relevancy.dtype == np.float32
    assert (result.image_relevancy.min(), result.image_relevancy.max()) == (0, 1)


def test_several_images_share_one_scale() -> None:
    scores = np.zeros((2, 16, 16), np.float32)
    scores[0, 3, 4], scores[1, 5, 6] = 0.5, 1.0
    result = make(image_scores=scores)
    assert result.image_relevancy.shape == (2, 16, 16)
    assert result.image_relevancy[0].max() == 0.5
    assert result.image_relevancy[1].max() == 1.0
    assert display_range(scores) == (0, 1)


def test_special_tokens_are_left_out_of_the_scale_and_clipped_to_it() -> None:
    result = make()
    on_scale = ordinary(result.text_positions.tolist(), ROLES, result.spans)
    assert text_range(TEXT, on_scale) == (1, 5)
    assert result.text_relevancy.tolist() == [1.0, 0.0, 0.25, 0.5, 1.0, 0.125]
    assert np.array_equal(result.text_scores, TEXT)


def test_what_the_target_gained_from_itself_is_left_out_of_the_scale() -> None:
    span = Span(kind="token", text="\u202e", token_positions=(271,), tokens=("\u202e",))
    result = make(spans=[span])  # position 270 holds 5.0, and is its p-1
    assert result.text_relevancy.tolist() == [1.0, 0.0, 0.5, 1.0, 1.0, 0.25]


def test_without_ordinary_tokens_there_is_nothing_to_scale() -> None:
    result = make(text_roles=["special"] * 6)
    assert (result.text_relevancy == 0).all()


def test_a_flat_map_is_all_zeros() -> None:
    result = make(image_scores=np.full((1, 16, 16), 0.3))
    assert (result.image_relevancy == 0).all()
    assert (result.image_scores == np.float32(0.3)).all()


def test_scores_are_copies_that_a_caller_cannot_change_afterwards() -> None:
    scores = np.ones((1, 16, 16), np.float32)
    result = make(image_scores=scores)
    scores[0, 0, 0] = 7
    assert result.image_scores.max() == 1


def test_the_peak_is_named_by_row_and_column() -> None:
    scores = np.zeros((2, 16, 16), np.float32)
    scores[1, 3, 12] = 1
    assert make(image_scores=scores).peak_cell(1) == (3, 12)


def test_an_image_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        make().peak_cell(1)
    with pytest.raises(InvalidRequest):
        make().overlay(Image.new("L", (8, 8)), index=-1)


def test_the_overlay_lies_as_the_image_was_padded() -> None:
    scores = np.zeros((1, 16, 16), np.float32)
    scores[0, 0, 0] = 1  # in the padding of a tall image, in the corner of a stretched one
    image = Image.new("L", (100, 600), 100)
    padded = np.asarray(make(image_scores=scores).overlay(image))
    stretched = np.asarray(make(image_scores=scores, pad_to_square=False).overlay(image))
    assert np.ptp(padded[:200].astype(int), axis=2).max() < 10
    assert np.ptp(stretched[:200].astype(int), axis=2).max() > 40


@pytest.mark.parametrize(
    "changes",
    [
        {"image_scores": np.zeros((16, 16))},
        {"image_scores": np.zeros((0, 16, 16))},
        {"text_scores": np.zeros(5)},
        {"text_positions": [1]},
        {"text_roles": ["prompt"] * 5},
        {"text_roles": ["system"] * 6},
        {"token_labels": ["a"]},
        {"raw_image_relevancy": np.zeros((16, 16))},
        {"raw_text_relevancy": np.zeros(7)},
        {"patch_scores": np.zeros((2, 32, 32))},
        {"patch_scores": np.zeros((32, 32))},
    ],
)
def test_shapes_that_do_not_agree_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InternalError):
        make(**changes)


@pytest.mark.parametrize("field", ["image_scores", "text_scores", "raw_text_relevancy"])
def test_what_is_not_finite_is_refused(field: str) -> None:
    bad = np.full((1, 16, 16) if field == "image_scores" else 6, np.nan)
    with pytest.raises(NonFiniteRelevancy):
        make(**{field: bad})


def test_the_finer_map_is_drawn_where_it_is_asked_for_and_there() -> None:
    image = Image.new("L", (64, 64), 90)
    fine = np.zeros((1, 32, 32), np.float32)
    fine[0, 3, 4] = 1
    result = make(patch_scores=fine)
    assert result.overlay(image, fine=True).tobytes() != result.overlay(image).tobytes()
    with pytest.raises(InvalidRequest, match="patch"):
        make().overlay(image, fine=True)
