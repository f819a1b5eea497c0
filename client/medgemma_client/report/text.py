"""Untrusted text, made fit to be shown: what is invisible becomes visible, tokens get a shade."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medgemma_tasks.colours import is_flat, scale_to_unit
from medgemma_tasks.errors import InvalidRequest
from medgemma_tasks.explanation import ordinary, text_range
from medgemma_tasks.models import TargetRecord
from medgemma_tasks.models import Token as TextToken
from medgemma_tasks.pictures import number_texts

if TYPE_CHECKING:
    from jinja2 import BaseLoader, Environment

# Control characters (not tab and newline), marks that reorder text, and halves of a surrogate pair.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """The text with every character that hides, reorders or breaks text named instead of obeyed.

    A mark that turns reading order round could make an answer read as its opposite; HTML has no
    way at all to carry a NUL.
    """
    return _HIDDEN.sub(_name, text)


def careful(loader: BaseLoader | None = None) -> Environment:
    """For templates in which all text is escaped, and passes `visible`; Markup is our own and stays
    as it is."""
    from jinja2 import Environment, StrictUndefined

    return Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )


def _name(match: re.Match[str]) -> str:
    return f"[U+{ord(match[0]):04X}]"


@dataclass(frozen=True, repr=False)
class Token:
    """A token to show: `shade` 0..1, or None for one that is on no scale; `score` is empty for one
    that comes after the target."""

    text: str
    score: str
    shade: float | None
    special: bool
    target: bool


@dataclass(frozen=True, repr=False)
class Tokens:
    """The text of prompt and answer by tokens, and the ends of their scale (None: flat)."""

    prompt: list[Token]
    answer: list[Token]
    ends: tuple[str, str] | None


def shaded_tokens(tokens: Sequence[TextToken], target: TargetRecord) -> Tokens | None:
    """All tokens of a record, shaded as a target saw them, on the scale of the ordinary ones; None
    without any. The target has scores for the first of them."""
    if not tokens:
        return None
    if len(target.scores) > len(tokens):
        raise InvalidRequest("A target of the record has more scores than there are tokens.")
    seen = tokens[: len(target.scores)]
    scores = np.array(target.scores)
    on_scale = ordinary([t.position for t in seen], [t.role for t in seen], [target.span])
    low, high = text_range(scores, on_scale)
    shades = scale_to_unit(scores, low, high)
    places = set(target.span.token_positions)
    shown = [
        Token(
            text=_token_text(token.text, broken=token.role != "special"),
            score=f"{scores[k]:.3g}" if k < len(seen) else "",
            shade=round(float(shades[k]), 3) if k < len(seen) and on_scale[k] else None,
            special=token.role == "special",
            target=token.position in places,
        )
        for k, token in enumerate(tokens)
    ]
    first = next((k for k, token in enumerate(tokens) if token.role == "answer"), len(shown))
    ends = None if is_flat(low, high) else number_texts(low, high)
    return Tokens(shown[:first], shown[first:], ends)


def _token_text(text: str, *, broken: bool) -> str:
    # SentencePiece writes a space as U+2581; a newline must be seen to be hovered over. Those of
    # the template break no line: there are many, and nobody wrote them.
    return text.replace("\u2581", " ").replace("\n", "\u23ce\n" if broken else "\u23ce")
