"""What is asked: drawn phantoms, or a file of questions about a folder of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, ValidationError

from medgemma_tasks.errors import FileUnreadable, InvalidRequest
from medgemma_tasks.models import Strict
from medgemma_worker.phantom.images import KINDS, make_phantom
from medgemma_worker.phantom.prompts import QUESTIONS

FIRST_SEED: Final = 400_000
"""Of the phantoms: apart from those of training and of its checks."""


@dataclass(frozen=True, repr=False)
class Question:
    """One image and what to explain of the answer about it.

    keyword: the word to explain; None explains the whole answer. other: another word of the answer,
    for the swap; None takes its longest. lesion: bool (height, width) where the truth is known.
    """

    image: Image.Image
    prompt: str
    keyword: str | None = None
    other: str | None = None
    lesion: NDArray[np.bool_] | None = None


class QuestionLine(Strict):
    """One line of questions.jsonl. ``image`` is a path, relative to the file's own folder."""

    image: str = Field(min_length=1)
    prompt: str = Field(min_length=1)
    keyword: str | None = Field(default=None, min_length=1)
    other: str | None = Field(default=None, min_length=1)


def phantoms(count: int, seed: int = FIRST_SEED) -> Iterator[Question]:
    """Films with a lesion, each kind in turn. Keyword is the finding, the other word the side."""
    for i in range(count):
        kind = KINDS[i % len(KINDS)]
        film = make_phantom(seed + i, kind=kind)
        side = (film.zone or "").split()[0]
        # The question is drawn, since one in a fixed step would go together with the kind.
        draw = np.random.Generator(np.random.PCG64([seed + i, 1])).integers(len(QUESTIONS))
        yield Question(film.image, QUESTIONS[draw], kind, side, film.mask)


def read_lines(path: Path) -> list[QuestionLine]:
    """Every line of a file of questions, empty ones aside, each with an image that is there.

    Raises FileUnreadable, and InvalidRequest with the line's number.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileUnreadable(
            f"The file of questions cannot be read ({type(error).__name__})."
        ) from None
    lines = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            question = QuestionLine.model_validate_json(line)
        except ValidationError as error:
            # Not the whole error: it would quote the line, and a question may be patient data.
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise InvalidRequest(
                f"Line {number} of the questions: {where or 'the object'}: {first['msg']}. A line "
                'is one object with "image" and "prompt", and if wanted "keyword" and "other".'
            ) from None
        if not (path.parent / question.image).is_file():
            # Now, and not after an hour. Its name may name a patient.
            raise FileUnreadable(f"Line {number} of the questions: there is no such image file.")
        lines.append(question)
    if not lines:
        raise InvalidRequest("The file of questions holds no question.")
    return lines


def from_lines(
    lines: list[QuestionLine], folder: Path, read: Callable[[Path], Image.Image]
) -> Iterator[Question]:
    """The questions of a file, each image read as its turn comes."""
    for line in lines:
        yield Question(read(folder / line.image), line.prompt, line.keyword, line.other)
