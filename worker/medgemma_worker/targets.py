"""From what is asked for (answer, words, characters, tokens) to positions in the sequence."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from medgemma_tasks.errors import (
    CharactersOutOfRange,
    EmptyAnswer,
    KeywordNotInAnswer,
    KeywordNotInPrompt,
    TokenOutOfRange,
    TooManyTargets,
)
from medgemma_tasks.models import (
    CharactersTarget,
    EveryTokenTarget,
    KeywordTarget,
    PromptTarget,
    Span,
    Target,
    TokenTarget,
    WordsTarget,
)
from medgemma_worker.answer import Answer, Words

MOST_TARGETS = 512
"""Of one job, each token of an answer counted: every one is a backward pass and a map to keep."""


def find_targets(
    targets: Sequence[Target],
    answer: Answer,
    *,
    labels: Sequence[str],
    images: Sequence[tuple[int, int]],
    prompt: Callable[[], Sequence[Words]],
) -> list[Span]:
    """The tokens to explain, in the order asked for; each token of an answer is one of its own.

    Args:
        labels: text of every token of the sequence, prompt and answer.
        images: first and one past the last position of each image's tokens.
        prompt: what finds the runs of text in the prompt, called if a target needs them.

    Raises KeywordNotInAnswer, KeywordNotInPrompt, CharactersOutOfRange, TokenOutOfRange,
    EmptyAnswer, TooManyTargets.
    """
    spans: list[Span] = []
    for target in targets:
        if isinstance(target, EveryTokenTarget):
            every = answer.span(0, len(answer.text))
            spans += [_token(position, answer, labels, images) for position in every]
        elif isinstance(target, PromptTarget):
            spans.append(_in_prompt(target, prompt(), labels))
        else:
            spans.append(find_target(target, answer, labels=labels, images=images))
    if len(spans) > MOST_TARGETS:
        raise TooManyTargets(
            f"These are {len(spans)} targets, and one job explains {MOST_TARGETS} at most; "
            "name the words that matter.",
            targets=len(spans),
            limit=MOST_TARGETS,
            answer=answer.text,
        )
    return spans


def find_target(
    target: Target,
    answer: Answer,
    *,
    labels: Sequence[str],
    images: Sequence[tuple[int, int]],
) -> Span:
    """The same for one target that is a single span of the answer, or one token."""
    if isinstance(target, KeywordTarget):
        start, end, count = find_keyword(target, answer.text)
        return _span("keyword", answer, start, end, labels, target.occurrence, count)
    if isinstance(target, TokenTarget):
        return _token(target.position, answer, labels, images)
    if isinstance(target, CharactersTarget):
        length = len(answer.text)
        end = length if target.end is None else target.end
        if not target.start < end <= length:
            raise CharactersOutOfRange(
                f"Characters {target.start} to {end} are not in the answer, which has {length}: "
                f"give 0 <= start < end <= {length}.",
                start=target.start,
                end=end,
                length=length,
                answer=answer.text,
            )
        return _span("characters", answer, target.start, end, labels)
    return _span("answer", answer, 0, len(answer.text), labels)


def find_keyword(target: WordsTarget, answer: str) -> tuple[int, int, int]:
    """Start, end and number of occurrences. White space in a keyword matches any white space."""
    found = _occurrences(target, answer)
    if len(found) < target.occurrence:
        raise KeywordNotInAnswer(
            f"{_missing(target, len(found), 'answer')} The answer was: {answer!r}",
            keyword=target.keyword,
            occurrences=len(found),
            answer=answer,
        )
    start, end = found[target.occurrence - 1]
    return start, end, len(found)


def _in_prompt(target: PromptTarget, prompt: Sequence[Words], labels: Sequence[str]) -> Span:
    found = [(words, *place) for words in prompt for place in _occurrences(target, words.text)]
    if len(found) < target.occurrence:
        # The prompt is not quoted: whoever asks has it.
        raise KeywordNotInPrompt(
            _missing(target, len(found), "prompt"),
            keyword=target.keyword,
            occurrences=len(found),
        )
    words, start, end = found[target.occurrence - 1]
    span = _span("prompt", words, start, end, labels, target.occurrence, len(found))
    # Offsets are those of the answer, where this is not.
    return span.model_copy(update={"char_start": None, "char_end": None})


def _occurrences(target: WordsTarget, text: str) -> list[tuple[int, int]]:
    words = r"\s+".join(re.escape(word) for word in target.keyword.split())
    if not words:
        return []
    # Not \b: a keyword may begin or end with a sign, where \b would ask for a letter next to it.
    pattern = rf"(?<!\w){words}(?!\w)" if target.whole_word else words
    return [match.span() for match in re.finditer(pattern, text, re.IGNORECASE)]


def _missing(target: WordsTarget, found: int, where: str) -> str:
    if found:
        seen = f"occurs {found} time(s) in the {where}, not {target.occurrence}"
    else:
        seen = f"is not in the {where}" + (" as a whole word" if target.whole_word else "")
    return f"The keyword {target.keyword!r} {seen}."


def _span(
    kind: str,
    words: Words,
    start: int,
    end: int,
    labels: Sequence[str],
    occurrence: int = 1,
    occurrences: int = 1,
) -> Span:
    positions = words.span(start, end)
    if not positions:
        raise EmptyAnswer("The target has no tokens of its own in the answer; choose another.")
    return Span.model_validate(
        {
            "kind": kind,
            "text": words.text[start:end],
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
