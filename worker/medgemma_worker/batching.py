"""How many questions are answered together.

Decoding reads the whole model for each token, for one answer or for many, so that together they are
cheaper. What bounds it: the device's memory, found by running out of it; the seconds that a step
may take, since an interactive job waits for its end; and that beyond some number nothing is gained.
"""

from __future__ import annotations

from collections.abc import Sequence

from medgemma_worker.engine import Cost

FIRST = 8
"""Before anything was measured."""

LARGEST = 64
"""Answers together at most: beyond it hardly anything is gained on any card."""

GAIN = 1.1
"""Twice as many are better where they give so many times as many tokens a second."""

WEIGHT = 0.3
"""Of the newest measurement in a running mean."""


class Batching:
    """What was learnt of batches; ``longest`` is the seconds that one may take."""

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._most = LARGEST
        self._seconds: dict[int, float] = {}  # for each new token, by the size of the batch
        self._share = 1.0  # of the tokens allowed that are used

    @property
    def advised(self) -> int:
        """How many jobs a shard is best made of: twice as many as long as that is a gain."""
        size = min(FIRST, self._most)
        while size * 2 <= self._most and self._rises(size):
            size *= 2
        return size

    def fitting(self, costs: Sequence[Cost]) -> int:
        """How many of the first of these are to be answered together, at least one."""
        size = min(len(costs), self._most)
        while size > 1 and self._estimate(costs[:size]) > self._longest:
            size = (size + 1) // 2
        return max(size, 1)

    def too_many(self, size: int) -> None:
        """So many did not fit, or took too long: from now on half as many."""
        self._most = max(1, min(self._most, size // 2))

    def took(self, costs: Sequence[Cost], seconds: float, tokens: int) -> None:
        """A batch was answered; ``tokens``: those of its longest answer."""
        allowed = max(cost.new_tokens for cost in costs)
        if not allowed or not tokens:
            return  # all answers were given
        used, size = tokens, len(costs)
        self._seconds[size] = _mean(self._seconds.get(size), seconds / used)
        self._share = _mean(self._share, used / allowed)

    def _estimate(self, costs: Sequence[Cost]) -> float:
        """Seconds for a batch, by the largest one measured that is no larger, in proportion."""
        known = [size for size in self._seconds if size <= len(costs)]
        if not known:
            return 0.0
        nearest = max(known)
        tokens = min(1.0, 1.5 * self._share) * max(cost.new_tokens for cost in costs)
        return self._seconds[nearest] * len(costs) / nearest * tokens

    def _rises(self, size: int) -> bool:
        """Whether batches twice as large are worth a try, or have shown that they are."""
        half, one, two = (self._seconds.get(n) for n in (size // 2, size, 2 * size))
        if one is None:
            return False
        if two is not None:
            return 2 * one / two > GAIN
        return half is None or 2 * half / one > GAIN


def _mean(before: float | None, now: float) -> float:
    return now if before is None else (1 - WEIGHT) * before + WEIGHT * now
