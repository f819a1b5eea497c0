"""The generated answer: its text, its thinking block, and which characters each token gave."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from medgemma_tasks.errors import EmptyAnswer

Decode = Callable[[Sequence[int]], str]
"""Ids to text, keeping special tokens and leaving white space alone."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Words:
    """A run of text within a whole sequence of tokens.

    first: position in the sequence of its first token. offsets: for each token the characters that
    it gave, start and end, counted in ``text``: outer white space lies before 0 or beyond the end,
    and a token that gave a part of one character has start equal to end.
    """

    text: str
    first: int
    offsets: tuple[tuple[int, int], ...]

    def span(self, start: int, end: int) -> tuple[int, ...]:
        """Positions in the sequence of the tokens that gave characters ``start..end-1``."""
        return tuple(
            self.first + i
            for i, (a, b) in enumerate(self.offsets)
            if (a < end and b > start) or (a == b and start <= a < end)
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class Answer(Words):
    """An answer: its text is without end markers, thinking block and outer white space.

    thinking: the block's text, or None.
    """

    thinking: str | None


def read_answer(
    generated: Sequence[int],
    *,
    first: int,
    decode: Decode,
    ends: frozenset[int],
    thinking: tuple[int | None, int | None],
) -> Answer:
    """Find the answer in what was generated.

    Args:
        generated: token ids after the prompt.
        first: position in the sequence of ``generated[0]``.
        decode: ids to text, keeping special tokens and leaving white space alone.
        ends: ids that end an answer.
        thinking: ids that open and close a thinking block, None where the vocabulary has none.

    Raises EmptyAnswer.
    """
    ids = list(generated)
    for i, token in enumerate(ids):
        if token in ends:
            ids = ids[:i]
            break
    thought: str | None = None
    begin = 0
    opening, closing = thinking
    if opening is not None and ids[:1] == [opening]:
        if closing not in ids:
            raise EmptyAnswer(
                "The model was still thinking when its tokens ran out; raise max_new_tokens."
            )
        end = ids.index(closing)
        thought = decode(ids[1:end]).removeprefix("thought").strip()
        begin = end + 1
    full = decode(ids[begin:])
    text = full.strip()
    if not text:
        raise EmptyAnswer("The model gave an empty answer, so there is nothing to explain.")
    offsets = token_offsets(ids[begin:], full, decode)
    lead = len(full) - len(full.lstrip())
    shifted = tuple((a - lead, b - lead) for a, b in offsets)
    return Answer(text=text, thinking=thought, first=first + begin, offsets=shifted)


def token_offsets(ids: Sequence[int], full: str, decode: Decode) -> list[tuple[int, int]]:
    """Start and end in ``full`` of what each token gave.

    By decoding each prefix: a tokenizer's own offsets are those of encoding, and a token may be
    one byte of a character, which gives its text only with the last of them.
    """
    ends = [0]
    for count in range(1, len(ids)):
        ends.append(max(ends[-1], _common(decode(ids[:count]), full)))
    ends.append(len(full))
    return list(itertools.pairwise(ends))


def _common(a: str, b: str) -> int:
    """How many characters both begin with."""
    pairs = zip(a, b, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
