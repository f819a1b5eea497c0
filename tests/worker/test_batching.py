from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgemma_worker.batching import AGAIN, FIRST, LARGEST, Batching

ONE = 100
"""New tokens."""


def measured(seconds_a_token: dict[int, float], *, longest: float = 1e9) -> Batching:
    batching = Batching(longest)
    for size, seconds in seconds_a_token.items():
        batching.took([ONE] * size, 100 * seconds, 100)
    return batching


def test_before_anything_is_measured_a_shard_is_made_of_eight() -> None:
    assert Batching(5.0).advised == FIRST


@pytest.mark.parametrize(
    ("seconds_a_token", "advised"),
    [
        ({8: 0.01}, 16),  # worth a try
        ({8: 0.01, 16: 0.011}, 32),
        ({8: 0.01, 16: 0.0199}, 8),  # twice as long for twice as many: nothing is gained
        ({8: 0.01, 16: 0.011, 32: 0.012, 64: 0.013}, LARGEST),
        ({4: 0.01, 8: 0.0199}, 8),
    ],
)
def test_shards_grow_until_tokens_a_second_stop_rising(
    seconds_a_token: dict[int, float], advised: int
) -> None:
    assert measured(seconds_a_token).advised == advised


def test_too_many_are_halved_and_that_is_remembered() -> None:
    batching = Batching(5.0)
    batching.too_many(8)
    assert batching.fitting([ONE] * 8) == 4
    assert batching.advised == 4
    batching.too_many(1)
    assert batching.fitting([ONE] * 8) == 1


def test_a_batch_is_cut_where_its_step_would_be_long() -> None:
    batching = measured({8: 0.1}, longest=5.0)  # 10 s for 100 tokens of eight
    assert batching.fitting([ONE] * 8) == 4
    assert batching.fitting([10] * 8) == 8


def test_answers_that_end_early_let_more_be_taken() -> None:
    batching = Batching(5.0)
    for _ in range(20):
        batching.took([ONE] * 8, 1.0, 10)
    assert batching.fitting([ONE] * 8) == 8


def test_given_answers_tell_nothing() -> None:
    batching = Batching(5.0)
    batching.took([0] * 8, 1.0, 0)
    assert batching.fitting([ONE] * 8) == 8


@given(
    st.lists(st.tuples(st.integers(1, 80), st.floats(1e-4, 10), st.integers(0, 400))),
    st.lists(st.integers(0, 400), min_size=1, max_size=300),
)
def test_at_least_one_is_taken_and_never_more_than_there_are(
    history: list[tuple[int, float, int]], waiting: list[int]
) -> None:
    batching = Batching(1.0)
    for size, seconds, tokens in history:
        batching.took([max(tokens, 1)] * size, seconds, tokens)
    assert 1 <= batching.fitting(waiting) <= min(len(waiting), LARGEST)
    assert 1 <= batching.advised <= LARGEST


def test_a_size_that_was_no_gain_is_tried_again_after_a_while() -> None:
    batching = Batching(1e9, first=1, largest=4)
    assert batching.advised == 1
    batching.took([1], 1.0, 1)
    batching.took([1, 1], 3.0, 1)  # a slow moment
    assert batching.advised == 1
    for _ in range(AGAIN):
        batching.took([1], 1.0, 1)
    assert batching.advised == 2


def test_no_more_than_the_largest_are_taken_together() -> None:
    batching = Batching(1e9, first=1, largest=4)
    for size in (1, 2, 4, 8):
        batching.took([1] * size, 1.0, 1)
    assert batching.advised == 4
    assert batching.fitting([1] * 8) == 4
