"""Processes that end with the one that started them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

_TIE = """\
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone")
os.execvp(sys.argv[2], sys.argv[2:])
"""


def tied_to_parent(command: Sequence[str]) -> list[str]:
    """The command, made to receive SIGTERM when the thread that starts it ends (Linux only).

    PR_SET_PDEATHSIG (1) is set by a small Python that then becomes the command, under the same
    pid. The obvious preexec_fn would run Python between fork and exec, which can deadlock in a
    process with threads. Elsewhere than on Linux the command is returned as it is.
    """
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-I", "-S", "-c", _TIE, str(os.getpid()), *command]
