"""The answer as words that can be chosen, each with the targets that explain it."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from medgemma_tasks.models import Span


@dataclass(frozen=True, repr=False)
class Word:
    """A run of the answer. targets: those that explain it, from 0: none of plain text, several
    where a word has several tokens, each explained on its own."""

    text: str
    targets: tuple[int, ...]


@dataclass(frozen=True, repr=False)
class Choices:
    """The answer cut into words, which add up to it, and the targets that are none of them: the
    whole answer, words of the prompt, what lies across others."""

    words: list[Word]
    others: list[int]


def choices(answer: str, spans: Sequence[Span]) -> Choices:
    """Where each target stands. Tokens go before phrases, since they tile the answer; a phrase that
    is one whole token was explained twice, and stands for both, since it was asked for by name."""
    taken: list[tuple[int, int, list[int]]] = []
    others: list[int] = []
    order = sorted(range(len(spans)), key=lambda k: (spans[k].kind != "token", _start(spans[k]), k))
    seen: set[tuple[int, ...]] = set()
    for k in order:
        span = spans[k]
        place = _place(answer, span)
        again = span.kind == "token" and span.token_positions in seen
        seen.add(span.token_positions)
        twin = next((one for one in taken if _is_twin(one, place, span, spans)), None)
        if place is None or again:
            others.append(k)
        elif twin:
            twin[2][0] = k
        elif span.kind == "token" and taken and _one_word(answer, taken[-1][1], place):
            start, end, targets = taken[-1]
            taken[-1] = (start, max(end, place[1]), [*targets, k])
        elif any(start < place[1] and place[0] < end for start, end, _ in taken):
            others.append(k)
        else:
            taken.append((*place, [k]))
    words: list[Word] = []
    done = 0
    for start, end, targets in sorted(taken):
        words += [Word(answer[done:start], ()), Word(answer[start:end], tuple(targets))]
        done = end
    words.append(Word(answer[done:], ()))
    return Choices([word for word in words if word.text], sorted(others))


def title(span: Span) -> str:
    """What was explained, in words."""
    if span.kind == "answer":
        return "the whole answer"
    text = span.text.replace("\u2581", " ")
    what = f"“{text.strip() or text.replace(chr(10), chr(0x23CE))}”"
    if span.occurrences > 1:
        what += f", occurrence {span.occurrence} of {span.occurrences}"
    if span.kind == "prompt":
        what += ", in the prompt"
    elif span.char_start is None:
        what += ", outside of the answer"
    return what


def _is_twin(
    word: tuple[int, int, list[int]],
    place: tuple[int, int] | None,
    span: Span,
    spans: Sequence[Span],
) -> bool:
    """Whether a word is one token, and this phrase the same one."""
    start, end, targets = word
    held = spans[targets[0]]
    return (
        span.kind != "token"
        and held.kind == "token"
        and (start, end) == place
        and held.token_positions == span.token_positions
        and len(targets) == 1
    )


def _start(span: Span) -> int:
    return -1 if span.char_start is None else span.char_start


def _place(answer: str, span: Span) -> tuple[int, int] | None:
    """First and one past the last character, white space around it aside."""
    if span.kind in ("answer", "prompt") or span.char_start is None or span.char_end is None:
        return None
    start, end = max(span.char_start, 0), min(span.char_end, len(answer))
    text = answer[start:end]
    start += len(text) - len(text.lstrip())
    end -= len(text) - len(text.rstrip())
    return (start, end) if start < end else None


def _one_word(answer: str, end: int, place: tuple[int, int]) -> bool:
    """Whether a token goes on with the word that ends there: letters and digits that touch, and
    tokens that share a character. Scripts without spaces are not joined to a whole clause."""
    if place[0] < end:
        return True
    return place[0] == end and all(
        character.isalnum() and unicodedata.east_asian_width(character) not in "WF"
        for character in (answer[end - 1], answer[end])
    )
