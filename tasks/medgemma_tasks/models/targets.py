"""What of an answer, or of its prompt, is to be explained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from medgemma_tasks.models.base import Strict


class AnswerTarget(Strict):
    """The whole answer, without its end markers and without a thinking block."""

    kind: Literal["answer"] = "answer"


class EveryTokenTarget(Strict):
    """Each token of the answer on its own: as many targets as the answer has tokens."""

    kind: Literal["every-token"] = "every-token"


class WordsTarget(Strict):
    """A word or phrase: case-insensitive, and whole words unless told otherwise."""

    keyword: str = Field(min_length=1, max_length=1000)
    occurrence: int = Field(default=1, ge=1)
    """Which occurrence, counted from 1."""
    whole_word: bool = True


class KeywordTarget(WordsTarget):
    """A word or phrase of the answer."""

    kind: Literal["keyword"] = "keyword"


class PromptTarget(WordsTarget):
    """A word or phrase of the prompt: why the model would have said it there itself."""

    kind: Literal["prompt"] = "prompt"


class CharactersTarget(Strict):
    """Characters ``start`` to ``end - 1`` of the answer, counted from 0 (to its last one where no
    end is given): every token that gave any of them."""

    kind: Literal["characters"] = "characters"
    start: int = Field(default=0, ge=0)
    end: int | None = Field(default=None, ge=1)


class TokenTarget(Strict):
    """One token, by its position in the whole sequence (prompt and answer), counted from 0."""

    kind: Literal["token"] = "token"
    position: int


Target = Annotated[
    AnswerTarget | EveryTokenTarget | KeywordTarget | PromptTarget | CharactersTarget | TokenTarget,
    Field(discriminator="kind"),
]
