"""A container's health check: does a worker of this host answer a ping?

    ping_worker.py [SECONDS]

The workers' parents answer, also while their children load a model or run a job. torch is not
imported.
"""

from __future__ import annotations

import socket
import sys

from kombu.exceptions import OperationalError

from medgemma_tasks.errors import MedGemmaError
from medgemma_tasks.queue import make_app
from medgemma_tasks.settings import load_settings

SECONDS = 10.0
"""Longest wait for the answer, where the command line does not say."""


def main(seconds: float) -> str | None:
    """What is wrong, or None."""
    try:
        replies = make_app(load_settings()).control.ping(
            pattern=f"*@{socket.gethostname()}", matcher="glob", limit=1, timeout=seconds
        )
    except (MedGemmaError, OperationalError, OSError) as error:
        return f"The broker cannot be asked ({type(error).__name__})."
    return None if replies else f"No worker of this host answered within {seconds:g} s."


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS))
