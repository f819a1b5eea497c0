"""A question as the explainer takes it: pictures, what is said, and what to explain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import TypedDict

import numpy as np
from PIL import Image

from medgemma_tasks.asking import Prompt, make_messages
from medgemma_tasks.errors import InvalidRequest
from medgemma_tasks.models import AnswerTarget, Message, Options, Target, TextPart
from medgemma_worker.pictures_in import Picture, read_picture


@dataclass(frozen=True, repr=False)
class Question:
    """images: mode "RGB", in the order in which the messages name them. given_answer: explain this
    answer and generate none."""

    images: tuple[Image.Image, ...]
    messages: tuple[Message, ...]
    targets: tuple[Target, ...] = (AnswerTarget(),)
    options: Options = field(default_factory=Options)
    given_answer: str | None = None

    @property
    def text(self) -> str:
        """All that is said, part by part."""
        parts = (part for message in self.messages for part in message.content)
        return "\n".join(part.text for part in parts if isinstance(part, TextPart))


class Asked(TypedDict, total=False):
    """What every way of asking takes besides the picture and the prompt."""

    system: str | None
    """A system prompt."""
    answer: str | None
    """Explain this answer, as if the model had said it, and generate none."""
    options: Options | None


def ask(
    image: Picture | Sequence[Picture],
    prompt: Prompt,
    targets: Sequence[Target] = (AnswerTarget(),),
    *,
    system: str | None = None,
    answer: str | None = None,
    options: Options | None = None,
) -> Question:
    """A question about one picture or several.

    Raises what ``read_picture`` and ``make_messages`` raise; InvalidRequest without a picture.
    """
    one = isinstance(image, (Image.Image, np.ndarray, str, PathLike))
    pictures: Sequence[Picture] = [image] if one else list(image)  # type: ignore[list-item,arg-type]
    if not pictures:
        raise InvalidRequest("There is no image; pass one or more.")
    if not targets:
        raise InvalidRequest("There is nothing to explain; name a target or more.")
    messages = make_messages(prompt, system, len(pictures))
    return Question(
        images=tuple(read_picture(picture) for picture in pictures),
        messages=messages,
        targets=tuple(targets),
        options=options or Options(),
        given_answer=answer,
    )
