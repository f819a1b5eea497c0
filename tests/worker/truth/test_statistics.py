"""Intervals, ranks, mass and peak."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from medgemma_worker.truth.agreement import mass_over_area, peak, rank_correlation, ranks
from medgemma_worker.truth.bootstrap import Paired

grids = arrays.arrays(np.float64, (3, 4), elements=st.integers(0, 30).map(float), unique=True)


def test_a_difference_is_paired_over_images() -> None:
    hardness = np.random.default_rng(0).random(40)
    better = hardness + 0.01
    paired = Paired(40, seed=0)
    apart = paired.estimate(better - hardness)
    assert apart.low == pytest.approx(0.01)
    assert apart.clears_zero
    assert paired.estimate(hardness).low < hardness.mean() < paired.estimate(hardness).high


def test_an_interval_is_about_as_wide_as_theory_has_it() -> None:
    values = np.random.default_rng(1).normal(size=400)
    estimate = Paired(400, seed=0).estimate(values)
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 / 20, rel=0.1)
    assert estimate == Paired(400, seed=0).estimate(values)


def test_noise_around_zero_does_not_clear_it() -> None:
    values = np.tile([0.1, -0.1], 20)
    assert not Paired(40, seed=0).estimate(values).clears_zero


def test_there_is_no_mean_over_no_images() -> None:
    with pytest.raises(ValueError, match="no image"):
        Paired(0, seed=0)


def test_equal_values_share_a_rank() -> None:
    assert ranks(np.array([[5.0, 1.0], [5.0, 9.0]])).tolist() == [1.5, 0.0, 1.5, 3.0]


@given(grids)
def test_ranks_do_not_see_a_rising_change_of_scale(values: np.ndarray) -> None:
    assert rank_correlation(values, np.exp(values / 10)) == pytest.approx(1.0)
    assert rank_correlation(values, -values) == pytest.approx(-1.0)


def test_a_constant_map_has_no_order_to_agree_with() -> None:
    assert rank_correlation(np.zeros((2, 2)), np.arange(4.0).reshape(2, 2)) == 0.0


def test_mass_over_area_is_one_for_an_even_map() -> None:
    region = np.zeros((4, 4), dtype=np.bool_)
    region[0, :2] = True
    assert mass_over_area(np.ones((4, 4)), region) == pytest.approx(1.0)
    assert mass_over_area(region.astype(float), region) == pytest.approx(8.0)
    assert mass_over_area(np.zeros((4, 4)), region) == 0.0


def test_the_peak_is_row_and_column() -> None:
    values = np.zeros((3, 5))
    values[2, 1] = 1.0
    assert peak(values) == (2, 1)
