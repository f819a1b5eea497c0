"""Telling clients their jobs' places in the queue: of all that could, one does, every few seconds.

In a thread of a process that does not fork: a supervisor, or what reconciles beside a worker alone.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from medgemma_tasks.errors import BrokerUnreachable
from medgemma_tasks.layout import model_slug
from medgemma_tasks.settings import Settings

log = logging.getLogger(__name__)

PERIOD = 2
"""Seconds between two tellings of a model's places, by whomever."""


@contextmanager
def telling(settings: Settings) -> Iterator[None]:
    """A thread that tells the places of the model's jobs, unless another one did just now."""
    stop = threading.Event()
    threading.Thread(target=_run, args=(settings, stop), name="places", daemon=True).start()
    try:
        yield
    finally:
        stop.set()


def _run(settings: Settings, stop: threading.Event) -> None:
    # Imported here, as it takes long: whoever starts this does not wait for it.
    from medgemma_tasks.backlog import tell_places
    from medgemma_tasks.live import LiveState

    live, token = LiveState(settings), secrets.token_hex(8)
    lock = f"places:{model_slug(settings.model)}"
    while not stop.wait(PERIOD):
        try:
            if live.lock(lock, token, PERIOD):  # it runs out, and whoever is next tells
                with live.connected() as redis:
                    tell_places(redis, settings.model)
        except BrokerUnreachable as error:
            log.debug("no places were told (%s)", error.code)
