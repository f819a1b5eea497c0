"""From what a caller says to messages: text before, between and after the images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from medgemma_tasks.errors import EmptyPrompt, InvalidRequest
from medgemma_tasks.making import make
from medgemma_tasks.models import Message

Prompt: TypeAlias = "str | Sequence[str | int]"
"""A text, which comes after all images; or texts and images in the order in which the model shall
read them, an image by its number from 0: ``["Before:", 0, "After:", 1, "What has changed?"]``."""


def make_messages(prompt: Prompt, system: str | None, images: int) -> tuple[Message, ...]:
    """One turn of the user's; before it the system text, if there is one.

    Raises EmptyPrompt where no text says anything, and InvalidRequest where a part is neither text
    nor the number of an image, or the images are not all named once, in order.
    """
    parts: list[str | int]
    if isinstance(prompt, str):
        parts = [*range(images), prompt]
    elif isinstance(prompt, Sequence) and not isinstance(prompt, bytes | bytearray):
        parts = list(prompt)
    else:
        raise InvalidRequest(f"The prompt is no text but {type(prompt).__name__}.")
    content = []
    for part in parts:
        if isinstance(part, str):
            content.append({"type": "text", "text": part})
        elif isinstance(part, int) and not isinstance(part, bool):
            content.append({"type": "image", "image": part})  # type: ignore[dict-item]
        else:
            raise InvalidRequest(
                f"A part of the prompt is {type(part).__name__}; parts are texts, and images by "
                "their number from 0."
            )
    if not any(isinstance(part, str) and part.strip() for part in parts):
        raise EmptyPrompt("The prompt is empty; ask something about the image.")
    if [part for part in parts if not isinstance(part, str)] != list(range(images)):
        raise InvalidRequest(
            f"The parts of the prompt must name each of the {images} images once, in order, by "
            "its number from 0."
        )
    user = make(Message, "prompt", role="user", content=content)
    if system is not None and not isinstance(system, str):
        raise InvalidRequest(f"The system text is no text but {type(system).__name__}.")
    if system is None or not system.strip():
        return (user,)
    said = [{"type": "text", "text": system}]
    return make(Message, "system text", role="system", content=said), user
