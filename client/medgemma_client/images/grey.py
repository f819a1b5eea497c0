"""Grey values of DICOM: lookup tables and windows.

Own code and not pydicom's ``apply_voi_lut``: that indexes in the type of the table's entries, so
that a table of 8-bit entries wraps values beyond 255, and its windows come out in the range of
the stored bits instead of 0..1. The tests hold both against each other where pydicom is right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Function = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]


@dataclass(frozen=True)
class Lookup:
    """A modality or VOI lookup table (PS3.3 C.11.1, C.11.2)."""

    first: int
    """The value that maps to the first entry; smaller ones map to it too."""
    entries: NDArray[np.uint16]
    bits: int
    """Bits of an entry; the output range is 0..2**bits - 1."""

    def __call__(self, values: Values) -> Values:
        """Look up each value; beyond the table's ends its first or last entry holds."""
        first = self.first
        if first >= 2**15 and values.size and values.min() < 0:
            # The descriptor is a 16-bit word without a sign of its own.
            first -= 2**16
        steps = np.rint(np.nan_to_num(values)) - first
        index = np.clip(steps, 0, self.entries.size - 1).astype(np.intp)
        found: Values = self.entries[index].astype(np.float64)
        return found


@dataclass(frozen=True)
class Window:
    """A window in the units of the modality (PS3.3 C.11.2.1.2)."""

    centre: float
    width: float
    function: Function = "LINEAR"

    def __call__(self, values: Values) -> Values:
        """Map values to 0..1."""
        centre, width = self.centre, self.width
        if self.function == "SIGMOID":
            # Beyond 60 the exponential is 0 or 1 anyway; further it would overflow.
            slope: Values = np.clip(-4 * (values - centre) / width, -60, 60)
            return 1 / (1 + np.exp(slope))
        if self.function == "LINEAR":
            centre, width = centre - 0.5, width - 1
        if width == 0:
            return (values > centre).astype(np.float64)
        scaled: Values = np.clip((values - centre) / width + 0.5, 0.0, 1.0)
        return scaled

    @property
    def valid(self) -> bool:
        return self.width >= 1 if self.function == "LINEAR" else self.width > 0
