"""The order in which MedGemma reads images and texts: for each kind of study as it was trained.

Taken from Google's notebooks for MedGemma 1.5; the words are our own. No text of a file is ever
among them.
"""

from __future__ import annotations

from collections.abc import Sequence

from medgemma_client.study.series import Kind, counted
from medgemma_tasks.errors import EmptyPrompt

_NAMED = {"CT": "a CT", "MR": "an MR", "PT": "a PET"}


def parts_of(
    kind: Kind, modality: str | None, images: int, question: str, instruction: str | None
) -> list[str | int]:
    """Slices: an instruction, each slice with its number after it, the question. Patches: the
    question, then the patches. All else: the images, then the question."""
    _check(question)
    opening = [instruction] if instruction else []
    if kind == "volume":
        told = opening or [instruction_for(modality, images)]
        return [*told, *_slices(range(images)), question]
    if kind == "patches":
        return [*opening, question, *range(images)]
    return [*opening, *range(images), question]


def parts_of_pair(
    kinds: tuple[Kind, Kind], images: tuple[int, int], question: str, instruction: str | None
) -> list[str | int]:
    """Two single images: prior, current, the question. Where one is a volume each is announced."""
    _check(question)
    opening = [instruction] if instruction else []
    before, after = range(images[0]), range(images[0], sum(images))
    if "volume" not in kinds and images == (1, 1):
        return [*opening, *before, *after, question]
    said: list[str | int] = [*opening, "The prior study:"]
    said += _slices(before) if kinds[0] == "volume" else before
    said.append("The current study:")
    said += _slices(after) if kinds[1] == "volume" else after
    return [*said, question]


def instruction_for(modality: str | None, slices: int) -> str:
    """What comes before the slices, unless the caller says something else."""
    whose = _NAMED.get(modality or "", "an")
    return f"These are {counted(slices, 'slice')} of {whose} examination, in their order in space."


def _slices(images: Sequence[int]) -> list[str | int]:
    said: list[str | int] = []
    for number, image in enumerate(images, 1):
        said += [image, f"SLICE {number}"]
    return said


def _check(question: str) -> None:
    if not isinstance(question, str) or not question.strip():
        raise EmptyPrompt("The question is empty; ask something about the study.")
