"""From what a caller says to the parts of a request; whatever can be known to be wrong is said
here, before anything is written."""

from __future__ import annotations

import operator
from contextlib import suppress
from typing import SupportsIndex

from medgemma_tasks.errors import EmptyPrompt, InvalidRequest, SequenceTooLong, TokenOutOfRange
from medgemma_tasks.making import make
from medgemma_tasks.models import (
    AnswerTarget,
    ImagePart,
    KeywordTarget,
    Message,
    Options,
    ServedModel,
    Target,
    TokenTarget,
)


def make_messages(prompt: str, system: str | None, images: int) -> tuple[Message, ...]:
    """One turn: the images, then the prompt; before it the system text, if there is one.

    Raises EmptyPrompt where the prompt is nothing but white space, and InvalidRequest where a text
    is none.
    """
    _check_text("prompt", prompt)
    if system is not None:
        _check_text("system text", system)
    if not prompt.strip():
        raise EmptyPrompt("The prompt is empty; ask something about the image.")
    pictures = tuple(ImagePart(image=index) for index in range(images))
    user = _message("user", "prompt", prompt, pictures)
    if system is None or not system.strip():
        return (user,)
    return _message("system", "system text", system, ()), user


def _message(role: str, what: str, text: str, pictures: tuple[ImagePart, ...]) -> Message:
    return make(Message, what, role=role, content=(*pictures, {"type": "text", "text": text}))


def make_target(
    *,
    keyword: str | None,
    token: int | None,
    target: Target | None,
    occurrence: int,
    whole_word: bool,
) -> Target:
    """What to explain: a keyword, a token, any target, or (none of them) the whole answer.

    Raises InvalidRequest where more than one is given, or one that cannot be, and TokenOutOfRange
    for a position that nothing predicts.
    """
    if sum(given is not None for given in (keyword, token, target)) > 1:
        raise InvalidRequest("Give one of keyword, token and target, not several.")
    occurrence = _whole("occurrence", occurrence)
    if keyword is not None:
        _check_text("keyword", keyword)
        if not keyword.strip():
            raise InvalidRequest("The keyword is empty; leave it out to explain the whole answer.")
        return make(
            KeywordTarget,
            "keyword",
            keyword=keyword.strip(),
            occurrence=occurrence,
            whole_word=whole_word,
        )
    if occurrence != 1:
        raise InvalidRequest("occurrence says which one of a keyword; give the keyword too.")
    if token is not None:
        target = make(TokenTarget, "token", position=_whole("token", token))
    if target is None:
        return AnswerTarget()
    if not isinstance(target, AnswerTarget | KeywordTarget | TokenTarget):
        raise InvalidRequest("target is none of AnswerTarget, KeywordTarget and TokenTarget.")
    if isinstance(target, TokenTarget) and target.position < 1:
        raise TokenOutOfRange(
            f"Token {target.position} cannot be explained: positions count from 0, and nothing "
            "comes before the first one that could predict it. Give 1 or more.",
            position=target.position,
            first=1,
        )
    return target


def make_options(
    max_new_tokens: int | None, pad_to_square: bool, images: int, served: ServedModel
) -> Options:
    """Options within what the workers of the model take.

    Raises InvalidRequest over their limit of tokens to generate, and SequenceTooLong where the
    images alone leave no room in the model's context.
    """
    limit = min(served.max_new_tokens, 4096)
    if max_new_tokens is None:
        wanted = min(Options().max_new_tokens, limit)
    else:
        wanted = _whole("max_new_tokens", max_new_tokens)
    if not 1 <= wanted <= limit:
        raise InvalidRequest(
            f"max_new_tokens is {wanted}; the workers of {served.name} take 1 to {limit}."
        )
    taken = images * served.tokens_per_image + wanted
    if taken > served.max_context_tokens:
        raise SequenceTooLong(
            f"{images} images and {wanted} new tokens need {taken} positions; {served.name} has "
            f"{served.max_context_tokens}. Send fewer images or ask for fewer tokens.",
            needed=taken,
            limit=served.max_context_tokens,
        )
    return make(Options, "request", max_new_tokens=wanted, pad_to_square=pad_to_square)


def _check_text(what: str, text: object) -> None:
    if not isinstance(text, str):
        raise InvalidRequest(f"The {what} is no text but {type(text).__name__}.")


def _whole(what: str, number: object) -> int:
    """A whole number, NumPy's included. True is 1 for Python, but nobody means that."""
    if isinstance(number, SupportsIndex) and not isinstance(number, bool):
        with suppress(TypeError):  # an array has an index only where it is one number
            return operator.index(number)
    raise InvalidRequest(f"{what} must be a whole number, not {type(number).__name__}.")
