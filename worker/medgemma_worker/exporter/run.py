"""The exporter as a program."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable
from contextlib import ExitStack
from types import FrameType

from medgemma_tasks.settings import Settings
from medgemma_worker.exporter.looking import Looker
from medgemma_worker.exporter.metrics import Fleet
from medgemma_worker.serving import serving


def run(settings: Settings, host: str, port: int, models: Iterable[str] = ()) -> None:
    """Serve ``/metrics`` and ``/healthz`` until SIGTERM or SIGINT; call it from the main thread.

    Raises InvalidSettings where the port cannot be had, PartMissing without prometheus-client.
    """
    stop = threading.Event()

    def hear(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    fleet = Fleet(Looker(settings, models))
    # That Redis is away is to be seen in the metrics; starting this anew would not mend it.
    pages = {"/healthz": lambda: (True, {"status": "ok"})}
    with ExitStack() as stack:
        for number in (signal.SIGTERM, signal.SIGINT):
            stack.callback(signal.signal, number, signal.signal(number, hear))
        stack.enter_context(serving(host, port, fleet, pages, named="--host or --port"))
        while not stop.wait(1.0):  # with a limit, since a signal is heard between two waits
            pass
