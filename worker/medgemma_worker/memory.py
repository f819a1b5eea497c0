"""Giving memory back to the system.

A long-lived child frees blocks of many sizes, and the C library keeps them: its resident memory
grew with each job, as far as was seen, though nothing was held. Asked to trim now and then it
levels off (benchmarks/soak.py).
"""

from __future__ import annotations

import ctypes
from contextlib import suppress

EVERY = 20
"""Shards between two trims, each of which takes some milliseconds."""


def trim() -> None:
    """Let the C library return what it does not use. Elsewhere than with glibc, nothing."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
