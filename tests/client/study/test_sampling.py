"""Google's rule for which of many slices are shown."""

from __future__ import annotations

import itertools

import pytest

from medgemma_client.study.sampling import sample


@pytest.mark.parametrize("count", [0, 1, 2, 84, 85])
def test_as_many_as_may_be_are_all_shown(count: int) -> None:
    assert sample(count, 85) == list(range(count))


def test_of_more_the_last_is_always_shown_and_the_first_never() -> None:
    for count in range(86, 3000):
        shown = sample(count, 85)
        assert len(set(shown)) == 85
        assert shown == sorted(shown)
        assert shown[-1] == count - 1
        assert shown[0] == round((count - 1) / 85) >= 1


def test_the_distances_are_even() -> None:
    shown = sample(300, 85)
    assert shown[:4] == [4, 7, 11, 14]
    assert {after - before for before, after in itertools.pairwise(shown)} == {3, 4}


def test_one_of_many_is_the_last() -> None:
    assert sample(10, 1) == [9]
