"""How many questions are answered, or answers explained, together.

Decoding reads the whole model for each token, for one answer or for many, so that together they are
cheaper. What bounds it: the device's memory, found by running out of it; the seconds that a step
may take, since an interactive job waits for its end; and that beyond some number nothing is gained.
"""

from __future__ import annotations

from collections.abc import Sequence

FIRST = 8
"""Answers together before anything was measured."""

LARGEST = 64
"""Answers together at most: beyond it hardly anything is gained on any card."""

AGAIN = 100
"""Steps after which sizes that were no gain are tried again: one slow moment may have misled."""

GAIN = 1.1
"""Twice as many are better where they give so many times as many tokens a second."""

WEIGHT = 0.3
"""Of the newest measurement in a running mean."""


class Batching:
    """What was learnt of batches; ``longest`` is the seconds that one may take.

    A batch takes as long as the largest work in it: tokens to generate, or whatever else takes time
    in proportion.
    """

    def __init__(self, longest: float, *, first: int = FIRST, largest: int = LARGEST) -> None:
        self._longest = longest
        self._first = first
        self._most = largest
        self._seconds: dict[int, float] = {}  # for each unit of work, by the size of the batch
        self._share = 1.0  # of the work allowed for that is done
        self._steps = 0

    @property
    def advised(self) -> int:
        """How many are best taken together: twice as many as long as that is a gain."""
        size = min(self._first, self._most)
        while size * 2 <= self._most and self._rises(size):
            size *= 2
        return size

    def fitting(self, works: Sequence[int]) -> int:
        """How many of the first of these are to be taken together, at least one."""
        size = min(len(works), self._most)
        while size > 1 and self._estimate(works[:size]) > self._longest:
            size = (size + 1) // 2
        return max(size, 1)

    def too_many(self, size: int) -> None:
        """So many did not fit, or took too long: from now on half as many."""
        self._most = max(1, min(self._most, size // 2))

    def took(self, works: Sequence[int], seconds: float, done: int) -> None:
        """A batch ended; ``done``: the work of the largest, which may be less than allowed for."""
        allowed, size = max(works), len(works)
        if not allowed or not done:
            return  # all answers were given
        self._seconds[size] = _mean(self._seconds.get(size), seconds / done)
        self._share = _mean(self._share, done / allowed)
        self._steps += 1
        if self._steps % AGAIN == 0:
            best = self.advised
            self._seconds = {n: seconds for n, seconds in self._seconds.items() if n <= best}

    def _estimate(self, works: Sequence[int]) -> float:
        """Seconds for a batch, by the largest one measured that is no larger, in proportion."""
        known = [size for size in self._seconds if size <= len(works)]
        if not known:
            return 0.0
        nearest = max(known)
        work = min(1.0, 1.5 * self._share) * max(works)
        return self._seconds[nearest] * len(works) / nearest * work

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
