"""What a process leaves behind that is killed in the middle of something."""

from __future__ import annotations

from contextlib import AbstractContextManager

_never_left: list[AbstractContextManager[None]] = []


def never_left(context: AbstractContextManager[None]) -> None:
    """Enter a context as a process does that dies within. It is kept: a generator that is
    collected would be left."""
    _never_left.append(context)
    context.__enter__()
