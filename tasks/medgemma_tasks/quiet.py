"""Keeps the libraries that parse a file from quoting it in logs and warnings.

pydicom writes the value it stumbles over (and the file's name) to its log and to ``warnings``,
Pillow writes tags to its debug log. Values of a medical file are patient data.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

_WARNINGS = threading.Lock()
"""``warnings.catch_warnings`` swaps global state, which two threads at once would leave wrong."""


@contextmanager
def without_logs(*names: str) -> Iterator[None]:
    """Drop what the named loggers are told by this thread; other threads' lines pass."""
    thread = threading.get_ident()

    def of_another_thread(record: logging.LogRecord) -> bool:
        return record.thread != thread

    with ExitStack() as undo:
        for name in names:
            logger = logging.getLogger(name)
            logger.addFilter(of_another_thread)
            undo.callback(logger.removeFilter, of_another_thread)
        yield


@contextmanager
def without_warnings() -> Iterator[None]:
    """Drop warnings. One thread at a time: for short work such as parsing a header."""
    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
