"""How much of a study is read at most. A study is written by others: a few bytes of a zip file or
of a deflated data set can stand for gigabytes."""

from __future__ import annotations

from dataclasses import dataclass

from medgemma_tasks.errors import StudyTooLarge


@dataclass(frozen=True)
class Limits:
    """Raise one if you trust the source."""

    files: int = 20_000
    """In a folder, a zip file or a list, of whatever kind."""
    frames: int = 20_000
    """Of all images together."""
    file_bytes: int = 1_000_000_000
    """Of one file, unpacked."""
    total_bytes: int = 20_000_000_000
    """Of all files, unpacked."""
    ratio: int = 200
    """Unpacked bytes for each byte of a zip file, once they are more than ``ratio_from``. Deflate
    reaches 1000; real studies stay below 10, synthetic ones below 100."""
    ratio_from: int = 100_000_000
    inflated_bytes: int = 250_000_000
    """Of one deflated data set."""
    pixels: int = 100_000_000
    """Of one image: rows x columns."""
    shown_bytes: int = 2_000_000_000
    """Of the pixels of all images that are shown, 8 bits a sample."""

    def check_shown(self, needed: int) -> None:
        """Raise StudyTooLarge where the images to be shown need more bytes."""
        if needed > self.shown_bytes:
            raise StudyTooLarge(
                f"The images to be shown have more than {self.shown_bytes} bytes. Show fewer of "
                "them.",
                limit=self.shown_bytes,
            )
