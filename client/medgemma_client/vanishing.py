"""A temporary folder that goes with its process, also where that is killed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_REMOVER = """\
import os, shutil, sys, time
sys.stdin.read()
for _ in range(100):  # a server that is about to end may still write into it
    shutil.rmtree(sys.argv[1], ignore_errors=True)
    if not os.path.exists(sys.argv[1]):
        break
    time.sleep(0.1)
"""


@contextmanager
def vanishing_folder(prefix: str) -> Iterator[Path]:
    """A new folder, for this user alone. What is in it may be a patient's, so that it must not be
    left behind: a small process waits for this one's end, and removes it then."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    # Its standard input ends with us, or with the context. In a session of its own, so that a
    # Ctrl-C or the closing of the terminal, which may be what ends us, does not reach it.
    remover = subprocess.Popen(  # noqa: S603 - our own program, and no shell
        [sys.executable, "-I", "-S", "-c", _REMOVER, str(folder.absolute())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield folder
    finally:
        remover.communicate()
