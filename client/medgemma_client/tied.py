"""Processes of the client's own that do not outlive it."""

from __future__ import annotations

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int) -> None:
    """Have this process killed when the thread that started it ends, however that happens.

    Linux only; elsewhere such a process ends when its pipe does. To be called first of all: until
    then it is not tied. ``parent``: that thread's process id, as told by itself.
    """
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before that
        os._exit(1)
