"""Untrusted text, made fit to be shown: what is invisible becomes visible, spans become pieces."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medgemma_tasks.colours import is_flat, scale_to_unit
from medgemma_tasks.errors import InvalidRequest
from medgemma_tasks.explanation import ordinary, text_range
from medgemma_tasks.models import Span, TargetRecord
from medgemma_tasks.models import Token as TextToken
from medgemma_tasks.pictures import number_texts

# Control characters (not tab and newline), marks that reorder text, and halves of a surrogate pair.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """The text with every character that hides, reorders or breaks text named instead of obeyed.

    A mark that turns reading order round could make an answer read as its opposite; HTML has no
    way at all to carry a NUL.
    """
    return _HIDDEN.sub(_name, text)


def _name(match: re.Match[str]) -> str:
    return f"[U+{ord(match[0]):04X}]"


@dataclass(frozen=True, repr=False)
class Piece:
    """A run of the answer; `target` where it is part of what was explained."""

    text: str
    target: bool


def answer_pieces(answer: str, spans: Sequence[Span]) -> list[Piece]:
    """The answer cut at the ends of its target spans. The pieces add up to the answer.

    A target that is the whole answer marks nothing: a page full of marks shows no more than none.
    """
    marked = [False] * len(answer)
    for span in spans:
        if span.kind == "answer" or span.char_start is None or span.char_end is None:
            continue
        for place in range(max(span.char_start, 0), min(span.char_end, len(answer))):
            marked[place] = True
    pieces: list[Piece] = []
    start = 0
    for place in range(1, len(answer) + 1):
        if place == len(answer) or marked[place] != marked[start]:
            pieces.append(Piece(answer[start:place], marked[start]))
            start = place
    return pieces


@dataclass(frozen=True, repr=False)
class Token:
    """A token to show: `shade` 0..1, or None for one that is on no scale."""

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
    """The tokens that a target saw, shaded on the scale of the ordinary ones; None without any.

    tokens: all of the record, in order; the target has scores for the first of them.
    """
    if not tokens:
        return None
    if len(target.scores) > len(tokens):
        raise InvalidRequest("A target of the record has more scores than there are tokens.")
    ordered = tokens[: len(target.scores)]
    scores = np.array(target.scores)
    on_scale = ordinary([t.position for t in ordered], [t.role for t in ordered], [target.span])
    low, high = text_range(scores, on_scale)
    shades = scale_to_unit(scores, low, high)
    places = set(target.span.token_positions)
    shown = [
        Token(
            text=_token_text(token.text, broken=token.role != "special"),
            score=f"{score:.3g}",
            shade=round(float(shade), 3) if scaled else None,
            special=token.role == "special",
            target=token.position in places,
        )
        for token, score, shade, scaled in zip(ordered, scores, shades, on_scale, strict=True)
    ]
    first = next((i for i, token in enumerate(ordered) if token.role == "answer"), len(shown))
    ends = None if is_flat(low, high) else number_texts(low, high)
    return Tokens(shown[:first], shown[first:], ends)


def _token_text(text: str, *, broken: bool) -> str:
    # SentencePiece writes a space as U+2581; a newline must be seen to be hovered over. Those of
    # the template break no line: there are many, and nobody wrote them.
    return text.replace("\u2581", " ").replace("\n", "\u23ce\n" if broken else "\u23ce")
