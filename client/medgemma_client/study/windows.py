"""Values of slices to the 8 bits that MedGemma 1.5 was trained on.

CT: three windows of Hounsfield units, one for each of red, green and blue. MR and PET: from the
smallest to the largest value of the whole acquisition. All else: as its own header says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medgemma_client.images import dicom
from medgemma_client.images.dicom_header import Header
from medgemma_client.images.grey import Window
from medgemma_tasks.eight_bits import unit_to_uint8
from medgemma_tasks.errors import InvalidRequest

Values = NDArray[np.float64]
Windowing: TypeAlias = "Literal['medgemma', 'file'] | tuple[float, float]"
"""As the model was trained; as each file's header says; or one window for all: centre and width."""

CT_WINDOWS = ((-1024.0, 1024.0), (-135.0, 215.0), (0.0, 80.0))
"""Of red, green and blue, in Hounsfield units: bone and air, soft tissue, brain."""


@dataclass(frozen=True)
class Range:
    """Smallest and largest value of an acquisition, in the units of the modality."""

    low: float
    high: float

    def joined(self, other: Range) -> Range:
        return Range(min(self.low, other.low), max(self.high, other.high))


def ct_to_rgb(values: Values) -> NDArray[np.uint8]:
    """Hounsfield units of any shape (...) to (..., 3): clipped, scaled to 0..255, rounded."""
    layers = [(np.clip(values, low, high) - low) / (high - low) for low, high in CT_WINDOWS]
    return unit_to_uint8(np.nan_to_num(np.stack(layers, axis=-1)))


def range_to_grey(values: Values, range_: Range) -> NDArray[np.uint8]:
    """Values of any shape to 0..255 over the range of the acquisition; a flat one is all 255."""
    span = range_.high - range_.low
    if not span > 0:
        return np.full(values.shape, 255, np.uint8)
    return unit_to_uint8(np.clip(np.nan_to_num((values - range_.low) / span), 0.0, 1.0))


def range_of(stored: NDArray[Any], header: Header) -> Range | None:
    """Of one slice, in which neither padding nor what is not finite counts; None of nothing."""
    counts = np.isfinite(stored) if stored.dtype.kind == "f" else np.ones(1, bool)
    if header.padding is not None:
        counts = counts & ((stored < header.padding[0]) | (stored > header.padding[1]))
    kept = stored if counts.all() else stored[np.broadcast_to(counts, stored.shape)]
    if not kept.size:
        return None
    if header.modality_lut:  # which need not rise
        values = header.modality_lut(np.unique(kept).astype(np.float64))
        return Range(float(values.min()), float(values.max()))
    ends = sorted(float(end) * header.slope + header.intercept for end in (kept.min(), kept.max()))
    return Range(ends[0], ends[1])


class Slices:
    """How the slices of one series are shown."""

    def __init__(self, modality: str | None, windowing: Windowing, range_: Range | None) -> None:
        """``range_``: of the acquisition, where ``needs_range``."""
        self._modality, self._windowing = modality, windowing
        self._range = range_ or Range(0.0, 0.0)
        self._tables: dict[tuple[object, ...], NDArray[Any]] = {}

    @staticmethod
    def needs_range(modality: str | None, windowing: Windowing) -> bool:
        return windowing == "medgemma" and modality in ("MR", "PT")

    def window(self, header: Header) -> tuple[float, float] | None:
        """Centre and width of the one window that is applied; None where it is none or three."""
        if isinstance(self._windowing, tuple):
            return self._windowing
        if self._windowing == "file" or self._modality not in ("CT", "MR", "PT"):
            return dicom.attributes_of(header).window
        if self._modality == "CT":
            return None
        low, high = self._range.low, self._range.high
        return ((low + high) / 2, high - low) if high > low else None

    def show(self, stored: NDArray[Any], header: Header) -> Image.Image:
        """Stored values, (rows, columns) or (rows, columns, 3), as an 8-bit image: L or RGB."""
        shade = self._shade(header) if stored.ndim == 2 else None
        if shade is None:
            return Image.fromarray(dicom.render(stored, header))
        if stored.dtype.kind not in "iu" or stored.dtype.itemsize > 2 or stored.size < 2**16:
            return Image.fromarray(shade(stored))
        # One value in, one colour out: 65,536 are shaded once instead of 262,144 a slice.
        table = self._table(shade, header, stored.dtype.newbyteorder("="))
        index = np.ascontiguousarray(stored, stored.dtype.newbyteorder("="))
        shown = np.take(table, index.view(f"u{stored.dtype.itemsize}"))
        if shown.dtype == np.uint8:
            return Image.fromarray(shown)
        size = (shown.shape[1], shown.shape[0])
        return Image.frombuffer("RGB", size, shown, "raw", "RGBX", 0, 1)

    def _table(
        self, shade: Callable[[NDArray[Any]], NDArray[np.uint8]], header: Header, kind: Any
    ) -> NDArray[Any]:
        """What is shown of each value that there is, by its bits: grey, or four bytes in one
        number, of which the last says nothing."""
        key = header.slope, header.intercept, header.photometric, id(header.modality_lut), kind
        if key not in self._tables:
            every = np.arange(2 ** (8 * kind.itemsize), dtype=f"u{kind.itemsize}").view(kind)
            self._tables[key] = shown = shade(every)
            if shown.ndim == 2:
                padded = np.zeros((len(shown), 4), np.uint8)
                padded[:, :3] = shown
                self._tables[key] = padded.view(np.uint32)[:, 0]
        return self._tables[key]

    def _shade(self, header: Header) -> Callable[[NDArray[Any]], NDArray[np.uint8]] | None:
        """None: as the file has it."""
        if isinstance(self._windowing, tuple):
            window = Window(*self._windowing)

            def grey(stored: NDArray[Any]) -> NDArray[np.uint8]:
                return unit_to_uint8(
                    np.nan_to_num(window(_values(stored, header))), invert=_inverted(header)
                )

            return grey
        if self._windowing == "file" or self._modality not in ("CT", "MR", "PT"):
            return None
        if self._modality == "CT":
            return lambda stored: ct_to_rgb(_values(stored, header))
        return lambda stored: range_to_grey(_values(stored, header), self._range)


def check_windowing(windowing: object) -> Windowing:
    """The same, or InvalidRequest."""
    if windowing == "medgemma":
        return "medgemma"
    if windowing == "file":
        return "file"
    if isinstance(windowing, tuple | list) and len(windowing) == 2:
        try:
            centre, width = (float(number) for number in windowing)
        except (TypeError, ValueError):
            pass
        else:
            if np.isfinite(centre) and np.isfinite(width) and width >= 1:
                return centre, width
    raise InvalidRequest(
        'The window is neither "medgemma" nor "file" nor a centre and a width of 1 or more.'
    )


def _values(stored: NDArray[Any], header: Header) -> Values:
    """In the units of the modality, in floating point: never back in a type without a sign."""
    values = stored.astype(np.float64)
    if header.modality_lut:
        return header.modality_lut(values)
    values *= header.slope
    values += header.intercept
    return values


def _inverted(header: Header) -> bool:
    return header.photometric == "MONOCHROME1"
