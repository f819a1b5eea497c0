"""Hearing which jobs end, of every tenant, for all who wait in this process: one connection."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event, Thread

from medgemma_tasks.errors import BrokerUnreachable
from medgemma_tasks.live import LiveState

log = logging.getLogger(__name__)

LISTEN = 0.5
"""Seconds between two looks at whether to stop."""

PAUSE = 2.0
"""Seconds before Redis is tried again."""


class Announcements:
    """A thread that tells of each job that ends, from ``start`` to ``stop``."""

    def __init__(
        self,
        live: LiveState,
        ended: Callable[[str, str], None],
        hearing: Callable[[bool], None],
    ) -> None:
        """ended: called with a tenant and a job's id. hearing: whether it is told from here on.

        Both are called in the thread.
        """
        self._live, self._ended, self._hearing = live, ended, hearing
        self._stopped = Event()
        self._thread = Thread(target=self._listen, name="announcements", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def _listen(self) -> None:
        while not self._stopped.is_set():
            try:
                with self._live.hearing(every_tenant=True) as bells:
                    self._hearing(True)
                    while not self._stopped.is_set():
                        for tenant, job_id in bells.rung_for(LISTEN):
                            self._ended(tenant, job_id)
            except BrokerUnreachable as error:
                log.warning("it is not heard when jobs end (%s)", error.code)
            finally:
                self._hearing(False)
            self._stopped.wait(PAUSE)
