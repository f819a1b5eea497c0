"""What is known of one question once it was explained and scored."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medgemma_worker.truth.frozen import Frozen
from medgemma_worker.truth.job import Scored

Maps = dict[str, NDArray[np.float32]]
"""By method: float32 (n, rows, columns)."""


@dataclass
class Measured:
    """One question that was explained, with all that is measured of it, by method."""

    index: int
    frozen: Frozen
    maps: Maps
    scored: Scored
    misses: int
    hits: dict[str, bool] = field(default_factory=dict)
    mass: dict[str, float] = field(default_factory=dict)
    swapped: dict[str, float] = field(default_factory=dict)
    randomised: dict[str, float] = field(default_factory=dict)
