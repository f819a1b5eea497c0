"""Order of cells, what is shown at a step, scale and area."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from medgemma_worker.truth.curves import area, normalised, ranking, shown_cells, steps


def test_steps_are_powers_of_two_up_to_half_the_cells() -> None:
    assert steps(256) == (1, 2, 4, 8, 16, 32, 64, 128)
    assert steps(16) == (1, 2, 4, 8)
    assert steps(1) == (1,)


@given(arrays.arrays(np.float32, (4, 4), elements=st.floats(0, 1, width=32)), st.integers(0, 99))
def test_a_ranking_is_a_falling_permutation(scores: np.ndarray, seed: int) -> None:
    order = ranking(scores, seed)
    assert sorted(order.tolist()) == list(range(16))
    assert (np.diff(scores.ravel()[order]) <= 0).all()


def test_equal_scores_do_not_favour_a_corner() -> None:
    firsts = {int(ranking(np.zeros((16, 16)), seed)[0]) for seed in range(40)}
    assert len(firsts) > 20


def test_a_map_with_nan_has_no_order() -> None:
    with pytest.raises(ValueError, match="NaN"):
        ranking(np.array([[0.0, np.nan]]), 0)


@given(st.integers(0, 12))
def test_what_is_deleted_is_what_is_inserted(count: int) -> None:
    order = ranking(np.random.default_rng(count).random((1, 3, 4)), 0)
    deleted = shown_cells(order, count, "deletion", (1, 3, 4))
    inserted = shown_cells(order, count, "insertion", (1, 3, 4))
    assert np.array_equal(deleted, ~inserted)
    assert inserted.sum() == count
    assert inserted.ravel()[order[:count]].all()


def test_the_scale_is_one_as_it_is_and_zero_when_covered() -> None:
    whole, covered = np.log(0.9), np.log(0.2)
    values = normalised(np.log([0.9, 0.2, 0.55]), whole, covered)
    assert values == pytest.approx([1.0, 0.0, 0.5])


def test_the_scale_holds_where_p_itself_is_too_small_for_a_float() -> None:
    values = normalised(np.array([-2000.0, -2000.0 - np.log(2)]), -2000.0, -2100.0)
    assert values == pytest.approx([1.0, 0.5])


def test_a_target_that_needs_no_image_has_no_scale() -> None:
    with pytest.raises(ValueError, match="depend"):
        normalised(np.array([-1.0]), -1.0, -1.0)


@given(st.floats(-1, 2), st.integers(1, 8))
def test_a_constant_curve_has_its_own_value_as_area(value: float, count: int) -> None:
    assert area(np.full(count, value), tuple(1 << i for i in range(count))) == pytest.approx(value)


def test_every_doubling_counts_the_same() -> None:
    counts = (1, 2, 4)
    assert area(np.array([1.0, 1.0, 0.0]), counts) == pytest.approx(0.75)
    assert area(np.array([1.0, 0.0, 0.0]), counts) == pytest.approx(0.25)
