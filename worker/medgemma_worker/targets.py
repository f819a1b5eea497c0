"""From what is asked for (answer, keyword, token) to positions in the sequence."""

from __future__ import annotations

import re
from collections.abc import Sequence

from medgemma_tasks.errors import EmptyAnswer, KeywordNotInAnswer, TokenOutOfRange
from medgemma_tasks.models import KeywordTarget, Span, Target, TokenTarget
from medgemma_worker.answer import Answer


def find_target(
    target: Target,
    answer: Answer,
    *,
    labels: Sequence[str],
    images: Sequence[tuple[int, int]],
) -> Span:
    """The tokens to explain.

    Args:
        labels: text of every token of the sequence, prompt and answer.
        images: first and one past the last position of each image's tokens.

    Raises KeywordNotInAnswer, TokenOutOfRange, EmptyAnswer.
    """
    if isinstance(target, KeywordTarget):
        start, end, count = find_keyword(target, answer.text)
        return _span("keyword", answer, start, end, labels, target.occurrence, count)
    if isinstance(target, TokenTarget):
        return _token(target.position, answer, labels, images)
    return _span("answer", answer, 0, len(answer.text), labels, 1, 1)


def find_keyword(target: KeywordTarget, answer: str) -> tuple[int, int, int]:
    """Start, end and number of occurrences. White space in a keyword matches any white space."""
    words = r"\s+".join(re.escape(word) for word in target.keyword.split())
    # Not \b: a keyword may begin or end with a sign, where \b would ask for a letter next to it.
    pattern = rf"(?<!\w){words}(?!\w)" if target.whole_word else words
    found = list(re.finditer(pattern, answer, re.IGNORECASE)) if words else []
    if len(found) < target.occurrence:
        seen = (
            "is not in the answer"
            if not found
            else f"occurs {len(found)} time(s) in the answer, not {target.occurrence}"
        )
        hint = " as a whole word" if target.whole_word and not found else ""
        raise KeywordNotInAnswer(
            f"The keyword {target.keyword!r} {seen}{hint}. The answer was: {answer!r}",
            keyword=target.keyword,
            occurrences=len(found),
            answer=answer,
        )
    match = found[target.occurrence - 1]
    return match.start(), match.end(), len(found)


def _span(
    kind: str,
    answer: Answer,
    start: int,
    end: int,
    labels: Sequence[str],
    occurrence: int,
    occurrences: int,
) -> Span:
    positions = answer.span(start, end)
    if not positions:
        raise EmptyAnswer("The target has no tokens of its own in the answer; choose another.")
    return Span.model_validate(
        {
            "kind": kind,
            "text": answer.text[start:end],
            "token_positions": positions,
            "tokens": tuple(labels[p] for p in positions),
            "char_start": start,
            "char_end": end,
            "occurrence": occurrence,
            "occurrences": occurrences,
        }
    )


def _token(
    position: int,
    answer: Answer,
    labels: Sequence[str],
    images: Sequence[tuple[int, int]],
) -> Span:
    last = len(labels) - 1
    if not 1 <= position <= last:
        why = "has no logit that predicts it" if position == 0 else "is not in the sequence"
        raise TokenOutOfRange(
            f"Token {position} {why}; positions 1 to {last} can be explained, and the answer "
            f"begins at {answer.first}.",
            position=position,
            first=1,
            last=last,
            answer=answer.text,
        )
    # Nothing predicts an image token; and the sequence is cut at the target, which must not part
    # tokens that see each other.
    if any(first <= position < end for first, end in images):
        raise TokenOutOfRange(
            f"Token {position} lies inside an image; image tokens are not predicted and have no "
            f"explanation. The answer begins at {answer.first}.",
            position=position,
            first=answer.first,
            last=last,
            answer=answer.text,
        )
    start, end = _characters(position - answer.first, answer)
    return Span(
        kind="token",
        text=labels[position],
        token_positions=(position,),
        tokens=(labels[position],),
        char_start=start,
        char_end=end,
    )


def _characters(index: int, answer: Answer) -> tuple[int | None, int | None]:
    """Which characters of the answer its token ``index`` gave; None for those outside of it."""
    if not 0 <= index < len(answer.offsets):
        return None, None
    start, end = answer.offsets[index]
    if end < 0 or start > len(answer.text):
        return None, None
    return max(start, 0), min(end, len(answer.text))
