"""The checks that come before any decoding."""

from __future__ import annotations

from medgemma_tasks.errors import EmptyImage, ImageTooLarge, InputError

MAX_FRAMES = 100_000
"""A long cine has thousands of frames; a header that claims more is damaged or hostile."""


def check_pixels(rows: int, columns: int, max_pixels: int) -> None:
    """Refuse an image without pixels (EmptyImage) or with too many (ImageTooLarge)."""
    if rows < 1 or columns < 1:
        raise EmptyImage(f"The image has no pixels: it is {columns} wide and {rows} high.")
    if rows * columns > max_pixels:
        raise ImageTooLarge(
            f"The image has {rows * columns} pixels ({columns} x {rows}), and the limit is "
            f"{max_pixels}. Pass a smaller image, or raise max_pixels if you trust the file.",
            pixels=rows * columns,
            limit=max_pixels,
        )


def check_frame(frame: int, frames: int) -> None:
    """Refuse a frame that is not there (InputError) or an absurd count (ImageTooLarge)."""
    if frames > MAX_FRAMES:
        raise ImageTooLarge(
            f"The file declares {frames} frames, and the limit is {MAX_FRAMES}. "
            "Check the file, or export the frame you need alone.",
            frames=frames,
            limit=MAX_FRAMES,
        )
    if not 0 <= frame < frames:
        raise InputError(
            f"There is no frame {frame}: the source has {frames}, counted from 0.",
            frame=frame,
            frames=frames,
        )
