"""What a person writes on a command line, as what the client library takes."""

from __future__ import annotations

import re
from pathlib import Path

from medgemma_tasks.errors import FileUnreadable, InvalidRequest


def parts_of(said: list[str]) -> str | list[str | int]:
    """One text as it is; several as parts, ``@1`` being the first image."""
    if len(said) == 1:
        return said[0]
    marks = (re.fullmatch(r"@(\d+)", part) for part in said)
    return [
        part if mark is None else int(mark[1]) - 1 for part, mark in zip(said, marks, strict=True)
    ]


def place_of(characters: str) -> tuple[int, int | None]:
    """``FROM:TO`` as two numbers; either may be left out. Raises InvalidRequest."""
    match = re.fullmatch(r"(\d*):(\d*)", characters)
    if match is None or not any(match.groups()):
        raise InvalidRequest("--characters takes FROM:TO, two numbers counted from 0, as 10:16.")
    start, end = match.groups()
    return int(start or 0), int(end) if end else None


def text_of(answer: str) -> str:
    """A given answer; ``@FILE`` is what that file holds, in UTF-8. Raises FileUnreadable."""
    if not answer.startswith("@"):
        return answer
    try:
        return Path(answer[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        # No path: its name may be a patient's.
        raise FileUnreadable(
            f"The file of --answer cannot be read ({type(error).__name__})."
        ) from None
