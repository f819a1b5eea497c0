"""Pauses of chance length: those who saw a part go away together do not come back in step."""

from __future__ import annotations

import random

SPREAD = 0.5
"""By how much of itself a pause may be shorter or longer."""


def jittered(seconds: float) -> float:
    """A pause of about so many seconds."""
    return seconds * random.uniform(1 - SPREAD, 1 + SPREAD)  # noqa: S311 - no secret
