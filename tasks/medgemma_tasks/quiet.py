"""Keeps the libraries that parse a file from quoting it in logs and warnings.

pydicom writes the value it stumbles over (and the file's name) to its log and to ``warnings``,
Pillow writes tags to its debug log. Values of a medical file are patient data.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

_WARNINGS = threading.Lock()
"""``warnings.catch_warnings`` swaps global state, which two threads at once would leave wrong."""


class _Silenced(threading.local):
    """How many times this thread wants each logger to be silent."""

    def __init__(self) -> None:
        self.times: Counter[str] = Counter()


_silenced = _Silenced()


def _passes(record: logging.LogRecord) -> bool:
    return not _silenced.times[record.name]


@contextmanager
def without_logs(*names: str) -> Iterator[None]:
    """Drop what the named loggers are told by this thread; other threads' lines pass."""
    for name in names:
        # It stays: taken away while another thread goes through the filters, it would make that
        # thread miss one, and let a line through.
        logging.getLogger(name).addFilter(_passes)
    _silenced.times.update(names)
    try:
        yield
    finally:
        _silenced.times.subtract(names)


@contextmanager
def without_warnings() -> Iterator[None]:
    """Drop warnings. One thread at a time: for short work such as parsing a header."""
    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
