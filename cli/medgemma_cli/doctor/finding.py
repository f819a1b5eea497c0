"""What one look at something found, and what is to be done about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from medgemma_tasks.errors import MedGemmaError


class Level(StrEnum):
    """How well it is."""

    OK = "ok"
    WARNING = "warning"
    """It works, and may not tomorrow, or not for everybody."""
    FAILED = "failed"
    NOT_APPLICABLE = "not applicable"
    """There is nothing to look at here, or no right to."""


@dataclass(frozen=True)
class Told:
    """What a look says: a line with what was found, and one with what to do, where that is any."""

    level: Level
    found: str
    advice: str = ""


@dataclass(frozen=True)
class Finding:
    """The same, with what was looked at: a part (``broker``), and what of it (``clock``)."""

    part: str
    check: str
    level: Level
    found: str
    advice: str


Look: TypeAlias = Callable[[], Told]
Part: TypeAlias = tuple[str, Sequence[tuple[str, Look]]]
"""A part and its checks. The first is its door: where it fails, the others cannot be looked at."""


def ok(found: str) -> Told:
    return Told(Level.OK, found)


def warning(found: str, advice: str) -> Told:
    return Told(Level.WARNING, found, advice)


def failed(found: str, advice: str) -> Told:
    return Told(Level.FAILED, found, advice)


def not_applicable(found: str, advice: str = "") -> Told:
    return Told(Level.NOT_APPLICABLE, found, advice)


def of_error(error: MedGemmaError) -> Told:
    """What one of our errors says. Its first sentence is what was wrong, the others what to do."""
    found, _, advice = error.message.partition(". ")
    return failed(f"{found.removesuffix('.')}.", advice or f"docs/operations.md: {error.code}.")


def examine(part: Part) -> Iterator[Finding]:
    """Look at a part, check by check. Never raises: what breaks one check leaves the others be."""
    name, checks = part
    door: Finding | None = None
    for check, look in checks:
        if door is not None and door.level in (Level.FAILED, Level.NOT_APPLICABLE):
            told = not_applicable(f"See {door.part}, {door.check}.")
        else:
            told = _look(look)
        finding = Finding(name, check, told.level, told.found, told.advice)
        door = door or finding
        yield finding


def _look(look: Look) -> Told:
    try:
        return look()
    except MedGemmaError as error:
        return of_error(error)
    except Exception as error:  # noqa: BLE001 - the other checks go on
        # Neither its text nor its trace: either may quote a path or a credential.
        return failed(
            f"The check itself broke off ({type(error).__name__}).",
            "Report it, please: this is a defect of the check.",
        )
