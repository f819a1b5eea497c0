"""The process beside a worker that was started without a supervisor: it reconciles, tells places,
and serves metrics and health (``python -m medgemma_worker.supervisor.beside``).

A process and no threads: Celery's parent forks, and a child forked while another thread holds a
lock of some library would wait for it for ever.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from medgemma_tasks.errors import MedGemmaError
from medgemma_tasks.logs import set_up_logs
from medgemma_tasks.models import WorkerHealth
from medgemma_tasks.settings import load_settings
from medgemma_worker.counters import Counters
from medgemma_worker.supervisor.metrics import Fleet, serving
from medgemma_worker.supervisor.places import telling
from medgemma_worker.supervisor.reconciler import run
from medgemma_worker.supervisor.rollcall import calling
from medgemma_worker.supervisor.tied import tied_to_parent

log = logging.getLogger(__name__)


class Alone:
    """The worker beside this process, as metrics and roll call know one."""

    restarts = 0
    alive = True  # this process ends with it
    given_up = False
    last_words: WorkerHealth | None = None

    def __init__(self, name: str, device: str, counters: Counters, pid: int) -> None:
        self.label = device
        self.node = f"{name}@{socket.gethostname()}"
        self.counters = counters
        self._pid = pid
        self._heard: WorkerHealth | None = None

    @property
    def up(self) -> bool:
        heard = self._heard
        return heard is not None and heard.state.serves

    @property
    def state(self) -> str:
        heard = self._heard
        return "not heard of" if heard is None else heard.state.value

    def hear(self, health: WorkerHealth | None) -> None:
        self._heard = health if health is not None and health.pid == self._pid else None


class Beside:
    """Such a process, which ends with the one that starts it. Called in the main thread alone."""

    def __init__(self, name: str, device: str, counters: int) -> None:
        module = "medgemma_worker.supervisor.beside"
        self._command = [sys.executable, "-m", module, name, device, str(counters)]
        self._counters = counters
        self._process = self._start()

    def tend(self) -> None:
        """Start another where it has ended: it may have been killed. Never raises."""
        status = self._process.poll()
        if status is not None:
            log.error("what reconciles beside this worker ended (%d): it is started again", status)
            with suppress(OSError):  # no memory for one, as yet
                self._process = self._start()

    def end(self) -> None:
        self._process.terminate()
        self._process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - a list, no shell
            tied_to_parent(self._command), stdin=subprocess.DEVNULL, pass_fds=(self._counters,)
        )


@contextmanager
def beside_this_process(name: str, device: str, counters: int) -> Iterator[Beside]:
    """Such a process beside this one. counters: the descriptor of their file."""
    beside = Beside(name, device, counters)
    try:
        yield beside
    finally:
        beside.end()


def main(name: str, device: str, counters: str) -> None:
    """Do all this until this process is ended."""
    settings = load_settings()
    set_up_logs(settings.log_format, device=device)
    alone = Alone(name, device, Counters(int(counters)), os.getppid())
    with ExitStack() as stack:
        stack.enter_context(telling(settings))
        if settings.metrics_port is not None:
            stack.enter_context(calling(settings, [alone]))
            try:
                stack.enter_context(serving(settings, Fleet(settings.model, [alone])))
            except MedGemmaError as error:
                # The worker does its work all the same, and is still reconciled.
                log.error("%s", error.message)
        run(settings, threading.Event())


if __name__ == "__main__":
    main(*sys.argv[1:])
