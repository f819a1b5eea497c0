"""Asking ``nvidia-smi``, in a process of its own, and what a bad driver can do to that."""

from __future__ import annotations

import shutil
import subprocess
from enum import Enum, auto

SECONDS = 60.0
"""Longest wait for an answer: the first call after a boot loads the driver."""

LONGEST = 120
"""Characters of what it says in its trouble that are told."""


class Trouble(Enum):
    """Why nothing was answered."""

    MISSING = auto()
    SILENT = auto()
    UNUSABLE = auto()
    """It cannot be run."""
    FAILED = auto()


class NotAnswered(Exception):
    """Its text is a sentence without its full stop."""

    def __init__(self, trouble: Trouble, told: str) -> None:
        super().__init__(f"nvidia-smi {told}")
        self.trouble = trouble


def ask(*arguments: str) -> str:
    """What it answers. Raises NotAnswered."""
    program = shutil.which("nvidia-smi")
    if program is None:
        raise NotAnswered(Trouble.MISSING, "is not installed")
    try:
        answer = subprocess.run(  # noqa: S603 - a list, no shell
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NotAnswered(Trouble.SILENT, f"did not answer within {SECONDS:.0f} s") from None
    except OSError as error:
        raise NotAnswered(Trouble.UNUSABLE, f"cannot be run: {error.strerror}") from None
    if answer.returncode != 0:
        said = (answer.stdout + answer.stderr).strip().splitlines() or ["nothing"]
        raise NotAnswered(Trouble.FAILED, f"failed and said: {said[0][:LONGEST]}")
    return answer.stdout
