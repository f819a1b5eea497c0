"""The parts of an image that shares of relevancy are given for; see ``medgemma_tasks.zones``."""

from __future__ import annotations

from typing import Literal, TypeAlias

from medgemma_tasks.models.base import Fraction, Strict

Side: TypeAlias = Literal["patient-right", "patient-left", "image-left", "image-right"]

Level: TypeAlias = Literal[
    "upper", "middle", "lower", "front", "back", "image-top", "image-middle", "image-bottom"
]
"""A third of the image's height. "middle" lies between upper and lower, or front and back."""


class Zone(Strict):
    """One of the six parts of an image, and the share of the image's relevancy in it."""

    side: Side
    level: Level
    share: Fraction

    @property
    def name(self) -> str:
        """For people, such as "patient right, upper third"."""
        whose = " of the image" if self.level.startswith("image-") else ""
        level = self.level.removeprefix("image-")
        return f"{self.side.replace('-', ' ')}, {level} third{whose}"


class Zones(Strict):
    """The shares of one image's relevancy. With ``outside`` they add up to 1."""

    zones: tuple[Zone, ...]
    """Six, as they lie on the image: row by row, each from the left."""
    outside: Fraction
    """Outside the image: what lies in the padding that made it a square."""
