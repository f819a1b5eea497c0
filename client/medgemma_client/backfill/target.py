"""The column "target": what of an answer or a prompt is explained, in a word."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from medgemma_tasks.errors import InvalidRequest

_KNOWN = "answer, every-token, keyword:WORD, prompt:WORD, characters:FROM:TO or token:N"


def read_targets(said: Sequence[str]) -> dict[str, Any]:
    """The targets as fields of a ``Row``: none for the whole answer, which stands alone.

    Raises InvalidRequest.
    """
    found: dict[str, Any] = {}
    for text in map(str.strip, said):
        kind, _, what = text.partition(":")
        match kind:
            case "answer" if text == kind and len(said) == 1:
                pass
            case "every-token" if text == kind:
                found["every_token"] = True
            case "keyword":
                found["keyword"] = (*found.get("keyword", ()), what)
            case "prompt":
                found["prompt_words"] = (*found.get("prompt_words", ()), what)
            case "characters" if kind not in found and (place := _place(what)):
                found["characters"] = place
            case "token" if kind not in found and re.fullmatch(r"[0-9]{1,9}", what):
                found["token"] = int(what)
            case _:
                raise InvalidRequest(
                    f"The target is none of {_KNOWN}; or answer stands beside others, or one of "
                    "the last two is there twice."
                )
    return found


def _place(what: str) -> tuple[int, int | None] | None:
    """FROM:TO as two numbers, of which either may be left out."""
    match = re.fullmatch(r"([0-9]{0,9}):([0-9]{0,9})", what)
    if match is None or not any(match.groups()):
        return None
    return int(match[1] or 0), int(match[2]) if match[2] else None
