"""From what a caller says to the parts of a request; whatever can be known to be wrong is said
here, before anything is written."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from medgemma_tasks.errors import EmptyPrompt, InvalidRequest, SequenceTooLong
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

M = TypeVar("M", bound=BaseModel)


def make_messages(prompt: str, system: str | None, images: int) -> tuple[Message, ...]:
    """One turn: the images, then the prompt; before it the system text, if there is one.

    Raises EmptyPrompt where the prompt is nothing but white space.
    """
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

    Raises InvalidRequest where more than one is given, or one that cannot be.
    """
    if sum(given is not None for given in (keyword, token, target)) > 1:
        raise InvalidRequest("Give one of keyword, token and target, not several.")
    if target is not None:
        return target
    if token is not None:
        if token < 0:
            raise InvalidRequest(f"A token's position counts from 0; {token} is below that.")
        return make(TokenTarget, "token", position=token)
    if keyword is not None:
        if not keyword.strip():
            raise InvalidRequest("The keyword is empty; leave it out to explain the whole answer.")
        return make(
            KeywordTarget,
            "keyword",
            keyword=keyword.strip(),
            occurrence=occurrence,
            whole_word=whole_word,
        )
    return AnswerTarget()


def make_options(
    max_new_tokens: int | None, pad_to_square: bool, images: int, served: ServedModel
) -> Options:
    """Options within what the workers of the model take.

    Raises InvalidRequest over their limit of tokens to generate, and SequenceTooLong where the
    images alone leave no room in the model's context.
    """
    limit = min(served.max_new_tokens, 4096)
    wanted = min(Options().max_new_tokens, limit) if max_new_tokens is None else max_new_tokens
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
    return Options(max_new_tokens=wanted, pad_to_square=pad_to_square)


def make(kind: type[M], what: str, /, **fields: object) -> M:
    """A model, or InvalidRequest that says which field was wrong and quotes none of it."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False)
        )
        raise InvalidRequest(f"The {what} cannot be used. {faults}.") from None
