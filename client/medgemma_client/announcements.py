"""Hearing which jobs end, of every tenant, for all who wait in this process: one connection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Event, Thread

from medgemma_client.listening import listen
from medgemma_tasks.live import LiveState


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
        listen(
            self._live,
            lambda: not self._stopped.is_set(),
            self._hearing,
            self._tell,
            every_tenant=True,
        )

    def _tell(self, jobs: Sequence[tuple[str, str]]) -> None:
        for tenant, job_id in jobs:
            self._ended(tenant, job_id)
