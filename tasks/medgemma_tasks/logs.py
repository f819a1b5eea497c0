"""How our programs log: lines for people, or one JSON object a line for machines.

A JSON line has ``time``, ``level``, ``logger`` and ``message``, and of FIELDS those that are known:
who logs can say that it works on a job, and every line until then is about it. No other attribute
of a record is written, since libraries attach what they please (Celery a task's arguments), nor the
text of an exception, which may quote what was asked: its class, and where it came from.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal

from medgemma_tasks.errors import PartMissing

FIELDS = ("device", "job", "attempt", "stage", "code")
"""Besides time, level, logger and message: a record's own (``extra``), else what it is about."""

TEXT = "%(asctime)s %(levelname)s %(name)s %(message)s"

_about: ContextVar[Mapping[str, object]] = ContextVar("about", default=MappingProxyType({}))


@contextmanager
def about(**fields: object) -> Iterator[None]:
    """All that this thread logs within is about these: names of FIELDS with their values."""
    token = _about.set({**_about.get(), **fields})
    try:
        yield
    finally:
        _about.reset(token)


def note(**fields: object) -> None:
    """The same from now on, until the ``about`` around it ends."""
    _about.set({**_about.get(), **fields})


def set_up_logs(form: Literal["text", "json"], **fields: str) -> None:
    """Log to standard error, from INFO on. fields: what every line of this process is about.

    Text leaves alone what was set up before; JSON replaces it. Raises PartMissing where JSON is
    wanted and python-json-logger is not there.
    """
    if form == "text":
        logging.basicConfig(level=logging.INFO, format=TEXT)
        return
    handler = logging.StreamHandler()
    handler.setFormatter(json_formatter(**fields))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)


def json_formatter(**fields: str) -> logging.Formatter:
    """What makes a record one line of JSON. Raises PartMissing as above."""
    try:
        from pythonjsonlogger.json import JsonFormatter
    except ImportError:
        raise PartMissing(
            "MEDGEMMA_LOG_FORMAT=json needs the package python-json-logger: install "
            "medgemma-explainer[worker] or [web]."
        ) from None

    class Formatter(JsonFormatter):
        def add_fields(
            self,
            log_data: dict[str, Any],
            record: logging.LogRecord,
            message_dict: dict[str, Any],
        ) -> None:
            log_data.update(
                time=datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
                level=record.levelname,
                logger=record.name,
                message=record.message,
            )
            for name, known in {**fields, **_about.get()}.items():
                log_data[name] = known
            for name in FIELDS:
                if (own := getattr(record, name, None)) is not None:
                    log_data[name] = own
            if record.exc_info and record.exc_info[1] is not None:
                log_data["exception"] = _trace(record.exc_info[1])

    return Formatter()


def _trace(error: BaseException) -> str:
    return f"{type(error).__qualname__}\n" + "".join(traceback.format_tb(error.__traceback__))
