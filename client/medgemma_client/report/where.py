"""The zones of an image as a small table that lies as the image does: two sides, three thirds."""

from __future__ import annotations

from dataclasses import dataclass

from medgemma_tasks.models import ExplanationRecord
from medgemma_tasks.models.zones import Level


@dataclass(frozen=True)
class ZoneRow:
    """A third of the image: its name, and the share at its left and right."""

    name: str
    shares: tuple[float, float]


@dataclass(frozen=True)
class ZoneTable:
    """The zones of one image. image: from 0. outside: in the padding around it."""

    image: int
    sides: list[str]
    rows: list[ZoneRow]
    outside: float


def zone_words(record: ExplanationRecord, image: int) -> tuple[list[str], list[str]] | None:
    """The names of an image's two sides and three thirds; None where no target has zones of it."""
    zones = next(
        (target.maps[image].zones for target in record.targets if target.maps[image].zones), None
    )
    if zones is None or len(zones.zones) != 6:
        return None
    sides = [zone.side.replace("-", " ") for zone in zones.zones[:2]]
    return sides, [_third(zone.level) for zone in zones.zones[::2]]


def zone_table(record: ExplanationRecord, target: int, image: int) -> ZoneTable | None:
    """The zones of an image in a target's map; all empty where that holds nothing."""
    words = zone_words(record, image)
    if words is None:
        return None
    zones = record.targets[target].maps[image].zones
    shares = [zone.share for zone in zones.zones] if zones else [0.0] * 6
    return ZoneTable(
        image=image,
        sides=words[0],
        rows=[ZoneRow(name, (shares[2 * k], shares[2 * k + 1])) for k, name in enumerate(words[1])],
        outside=zones.outside if zones else 0.0,
    )


def _third(level: Level) -> str:
    return f"{level.removeprefix('image-')} third"
