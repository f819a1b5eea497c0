"""From what a caller says to the parts of a request; whatever can be known to be wrong is said
here, before anything is written."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, SupportsIndex, get_args

from medgemma_tasks.errors import EmptyAnswer, InvalidRequest, SequenceTooLong, TokenOutOfRange
from medgemma_tasks.making import make
from medgemma_tasks.models import (
    AnswerTarget,
    CharactersTarget,
    EveryTokenTarget,
    KeywordTarget,
    Options,
    PromptTarget,
    ServedModel,
    Strict,
    Target,
    TokenTarget,
    WordsTarget,
)

ROOM_FOR_WORDS = 500
"""Tokens of a prompt besides those of a study's images and their numbers."""

WORDS_BETWEEN = 14
"""Tokens between two images of a study at most: the marks round an image and "SLICE 85"."""


@dataclass(frozen=True, repr=False)
class Wanted:
    """What to explain, as a caller says it; whatever is given becomes a target, in this order."""

    keyword: str | Sequence[str] | None = None
    characters: tuple[int, int | None] | None = None
    token: int | None = None
    prompt_words: str | Sequence[str] | None = None
    every_token: bool = False
    targets: Target | Sequence[Target] | None = None
    occurrence: int = 1
    whole_word: bool = True


def make_targets(wanted: Wanted) -> tuple[Target, ...]:
    """The targets; the whole answer where nothing is named.

    Raises InvalidRequest for one that cannot be, and TokenOutOfRange for a position that nothing
    predicts.
    """
    keywords = _spoken(KeywordTarget, "keyword", wanted.keyword, wanted)
    words = _spoken(PromptTarget, "word", wanted.prompt_words, wanted)
    if _whole("occurrence", wanted.occurrence) != 1 and not keywords and not words:
        raise InvalidRequest("occurrence says which one of a keyword; give the keyword too.")
    found: list[Any] = [*keywords]
    if wanted.characters is not None:
        found.append(_characters(wanted.characters))
    if wanted.token is not None:
        found.append(make(TokenTarget, "token", position=_whole("token", wanted.token)))
    found += words
    if wanted.every_token:
        found.append(EveryTokenTarget())
    given = wanted.targets
    found += [given] if isinstance(given, Strict) else _several("target", given)
    for target in found:
        if not isinstance(target, get_args(get_args(Target)[0])):
            raise InvalidRequest(
                f"A target is a {type(target).__name__}; targets are those of "
                "medgemma_tasks.models: AnswerTarget, KeywordTarget and their kin."
            )
        if isinstance(target, TokenTarget) and target.position < 1:
            raise TokenOutOfRange(
                f"Token {target.position} cannot be explained: positions count from 0, and nothing "
                "comes before the first one that could predict it. Give 1 or more.",
                position=target.position,
                first=1,
            )
    return tuple(found) or (AnswerTarget(),)


def _spoken(kind: type[WordsTarget], what: str, given: object, wanted: Wanted) -> list[WordsTarget]:
    return [
        make(
            kind,
            what,
            keyword=_said(what, text),
            occurrence=_whole("occurrence", wanted.occurrence),
            whole_word=wanted.whole_word,
        )
        for text in ([given] if isinstance(given, str) else _several(what, given))
    ]


def _several(what: str, given: object) -> Sequence[Any]:
    if given is None:
        return ()
    if isinstance(given, list | tuple):
        return given
    raise InvalidRequest(f"The {what} is neither one nor a list of them, but {_kind(given)}.")


def _said(what: str, text: object) -> str:
    if not isinstance(text, str):
        raise InvalidRequest(f"The {what} is no text but {_kind(text)}.")
    if not text.strip():
        raise InvalidRequest(f"The {what} is empty; leave it out to explain the whole answer.")
    return text.strip()


def _characters(given: object) -> CharactersTarget:
    if not isinstance(given, list | tuple) or len(given) != 2:
        raise InvalidRequest("characters is a pair: the first, and one past the last, from 0.")
    start, end = given
    return make(
        CharactersTarget,
        "span of characters",
        start=_whole("the first character", start),
        end=None if end is None else _whole("the end of the characters", end),
    )


def make_options(
    images: int, served: ServedModel, max_new_tokens: int | None = None, **options: object
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
    return make(Options, "request", max_new_tokens=wanted, **options)


def images_that_fit(served: ServedModel, max_new_tokens: int | None = None) -> int | None:
    """How many images a study may have at most, where the model has less room than MedGemma, of
    which whole studies were shown in training; None where it has as much."""
    from medgemma_client.study.sampling import MOST_SLICES

    new = max_new_tokens or min(Options().max_new_tokens, served.max_new_tokens)
    room = served.max_context_tokens - new - ROOM_FOR_WORDS
    fits = max(1, room // (served.tokens_per_image + WORDS_BETWEEN))
    return fits if fits < MOST_SLICES else None


def check_given(answer: object) -> None:
    """Raise InvalidRequest or EmptyAnswer where a given answer is no text that says anything."""
    if answer is not None and not isinstance(answer, str):
        raise InvalidRequest(f"The given answer is no text but {_kind(answer)}.")
    if answer is not None and not answer.strip():
        raise EmptyAnswer("The given answer is empty; give the words to explain.")


def _kind(value: object) -> str:
    return type(value).__name__


def _whole(what: str, number: object) -> int:
    """A whole number, NumPy's included. True is 1 for Python, but nobody means that."""
    if isinstance(number, SupportsIndex) and not isinstance(number, bool):
        with suppress(TypeError):  # an array has an index only where it is one number
            return operator.index(number)
    raise InvalidRequest(f"{what} must be a whole number, not {_kind(number)}.")


def make_deadline(expires: float | datetime | None) -> datetime | None:
    """The moment of a deadline: seconds from now, or itself. Raises InvalidRequest."""
    if expires is None:
        return None
    now = datetime.now(UTC)
    if isinstance(expires, datetime):
        if expires.tzinfo is None:
            raise InvalidRequest("The deadline has no time zone; use datetime.now(UTC) and add.")
        moment = expires
    else:
        try:
            moment = now + timedelta(seconds=expires)
        except (OverflowError, ValueError, TypeError):
            raise InvalidRequest(
                "The deadline is neither a moment nor a number of seconds."
            ) from None
    if moment <= now:
        raise InvalidRequest("The deadline has passed already; give one that is to come.")
    return moment
