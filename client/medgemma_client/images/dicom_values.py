"""Values of a data set as plain numbers, whatever a file made of them."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any


def holder(ds: Any, frame: int, group: str, keyword: str) -> Any:
    """The data set that holds ``keyword`` for a frame: in an enhanced multi-frame file an item of
    the per-frame or the shared functional groups, else the file's own."""
    per_frame = values_of(ds, "PerFrameFunctionalGroupsSequence")[frame : frame + 1]
    for groups in (*per_frame, *values_of(ds, "SharedFunctionalGroupsSequence")[:1]):
        for item in values_of(groups, group)[:1]:
            if keyword in item:
                return item
    return ds


def values_of(ds: Any, keyword: str) -> list[Any]:
    """An attribute's values, however many; none where it is absent or empty."""
    value = ds.get(keyword)
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str | bytes | int | float) else list(value)


def numbers_of(ds: Any, keyword: str, default: float) -> list[float]:
    numbers = [float(value) for value in values_of(ds, keyword)] or [default]
    if not math.isfinite(numbers[0]):
        raise ValueError("a number is not finite")
    return numbers


def optional_numbers(ds: Any, keyword: str) -> tuple[float, ...]:
    """Finite numbers of an attribute that may be left out; none where one cannot be read."""
    with suppress(ValueError, TypeError, OverflowError):
        numbers = tuple(float(value) for value in values_of(ds, keyword))
        if all(math.isfinite(number) for number in numbers):
            return numbers
    return ()


def count_of(ds: Any, keyword: str, default: int = 0) -> int:
    values = values_of(ds, keyword)
    return int(values[0]) if values else default
