"""The supervisor: one worker process group per device, restarted when it dies.

It imports no torch and never touches CUDA. Each child finds its own device alone in
CUDA_VISIBLE_DEVICES, set before its first instruction.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from medgemma_tasks.models import WorkerHealth, WorkerState
from medgemma_tasks.settings import Settings
from medgemma_worker.counters import Counters
from medgemma_worker.exits import LOAD_FAILED, SOME_GIVEN_UP
from medgemma_worker.post import POST
from medgemma_worker.supervisor.devices import Device
from medgemma_worker.supervisor.metrics import Fleet, serving
from medgemma_worker.supervisor.places import telling
from medgemma_worker.supervisor.reconciler import beside_this_thread
from medgemma_worker.supervisor.rollcall import calling, epitaph, node_name
from medgemma_worker.supervisor.tied import tied_to_parent

log = logging.getLogger(__name__)

HEALTHY_SECONDS = 30.0
"""A worker of which nothing was heard, and that dies younger than this, failed to load."""

STEADY_SECONDS = 600.0
"""After a child of this age the next pause is the shortest again."""

GIVE_UP_AFTER = 3
"""Loads that failed, in a row, after which a device is given up."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before a restart; each pause is twice the one before."""

STALE_SECONDS = 30.0
"""What a worker said is no news any more after so long: the roll is called every few seconds."""

WORKER_COMMAND = (sys.executable, "-m", "medgemma_worker.app", "{device}", "{counters}")
"""What runs on each device; ``{device}`` becomes its name, ``{counters}`` the descriptor of the
file that it counts in."""


def launch(
    settings: Settings,
    devices: Sequence[Device],
    *,
    command: Sequence[str] = WORKER_COMMAND,
    healthy_after: float = HEALTHY_SECONDS,
    first_pause: float = FIRST_PAUSE,
) -> int:
    """Run a worker on each device until told to stop; call it from the main thread.

    The first SIGTERM or SIGINT lets the workers finish or hand back what they do, and waits for
    them; the second kills them. ``healthy_after`` and ``first_pause`` are in seconds.

    Returns 0 after an orderly stop, SOME_GIVEN_UP (3) where a device had been given up by then, 1
    when every device was given up or the workers were killed. Raises InvalidSettings where the port
    for metrics cannot be had.
    """
    children = [_Child(device, settings, command, healthy_after, first_pause) for device in devices]
    loop = _Loop()
    with (
        _signals() as signals,
        serving(settings, Fleet(settings.model, children, lambda: loop.turned)),
        beside_this_thread(settings),
        calling(settings, children),
        telling(settings),
    ):
        try:
            return _supervise(children, signals, loop)
        finally:
            for child in children:
                child.kill()


def child_environment(settings: Settings, device: Device) -> dict[str, str]:
    """The environment of the worker on a device."""
    environment = {
        **os.environ,
        # By UUID, so that CUDA's own order of devices does not matter. "-1" hides all of them.
        "CUDA_VISIBLE_DEVICES": "-1" if device.visible is None else device.visible,
        # SIGTERM becomes Celery's soft shutdown: finish within a grace, else hand the job back.
        "REMAP_SIGTERM": "SIGQUIT",
    }
    if settings.device == "auto":
        # A worker started for a GPU that torch cannot use must fail, not crawl along on the CPU.
        environment["MEDGEMMA_DEVICE"] = "cpu" if device.visible is None else "cuda"
    return environment


@dataclass
class _Child:
    """One device and the process group that serves it, if one does at the moment."""

    device: Device
    settings: Settings
    command: Sequence[str]
    healthy_after: float
    first_pause: float
    post: str = field(default_factory=lambda: secrets.token_hex(8))
    """What its workers have in common, one after the other."""
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0
    """Since the supervisor began."""
    last_words: WorkerHealth | None = None
    """What is to be said for it, where it was given up."""
    due: float = 0.0
    """When to start it next, on the monotonic clock."""
    counters: Counters = field(init=False)
    """Of all its workers, one after another."""
    _file: int = field(init=False)
    _started: float = 0.0
    _pauses: int = 0
    _failures: int = 0
    _heard: WorkerHealth | None = None
    _heard_at: float = 0.0
    _how: str = ""
    _other: str = ""
    """The post of another supervisor's worker of this name, of which was warned."""
    _ready: int = 0
    """The process that was last known to be ready."""

    def __post_init__(self) -> None:
        self.counters, self._file = Counters.shared()

    @property
    def label(self) -> str:
        return self.device.name

    @property
    def node(self) -> str:
        return node_name(self.device)

    @property
    def alive(self) -> bool:
        return self.process is not None

    @property
    def given_up(self) -> bool:
        return self.last_words is not None

    @property
    def up(self) -> bool:
        """Whether its worker is known to serve."""
        heard = self._lately()
        return heard is not None and heard.state.serves

    @property
    def state(self) -> str:
        if self.given_up:
            return "given up"
        heard = self._lately()
        if heard is not None:
            return heard.state.value
        return "not heard of" if self.alive else "ended"

    def _lately(self) -> WorkerHealth | None:
        """What was heard, unless nobody has listened since."""
        fresh = time.monotonic() < self._heard_at + STALE_SECONDS
        return self._heard if fresh else None

    def hear(self, health: WorkerHealth | None) -> None:
        """What its worker said last, if anything. Called in another thread."""
        process, self._heard_at = self.process, time.monotonic()
        if health is not None and process is not None and self._ready == process.pid:
            self._warn_of(health)
        if health is None or process is None or health.pid != process.pid:
            self._heard = None  # the word of a predecessor is none
            return
        how = "serves" if health.state.serves else f"is {health.state.value}"
        if how != self._how:
            level = logging.WARNING if health.state is WorkerState.DEFUNCT else logging.INFO
            log.log(level, "Worker %s, pid %d, %s.", self.device.name, health.pid, how)
        self._how, self._heard = how, health
        if health.state.serves:
            self._ready = health.pid

    def _warn_of(self, health: WorkerHealth) -> None:
        """Of one that says of our worker's name how it is after ours did, and is not just ending:
        our predecessors' were silent by then."""
        ending = health.state is WorkerState.STOPPING or not health.state.lives
        if health.post in (self.post, self._other) or ending:
            return
        self._other = health.post
        log.warning(
            "Another supervisor on this host has a worker %s of the same model too, pid %d: how "
            "either is cannot be told, nor can it be drained. Give each devices of its own.",
            *(self.device.name, health.pid),
        )

    def start(self) -> None:
        """Start a worker. Where none can be for now, since memory or descriptors are short, another
        time: the workers of other devices go on."""
        told = {"{device}": self.device.name, "{counters}": str(self._file)}
        command = [told.get(part, part) for part in self.command]
        self._started = time.monotonic()
        try:
            self.process = subprocess.Popen(  # noqa: S603 - a list, no shell
                tied_to_parent(command),
                env={**child_environment(self.settings, self.device), POST: self.post},
                stdin=subprocess.DEVNULL,
                pass_fds=(self._file,),
                start_new_session=True,  # its group can be killed, and a Ctrl-C reaches us alone
            )
        except OSError as error:
            log.error("Worker %s could not be started (%s).", self.device.name, error.strerror)
            self._put_off()
            return
        self.restarts += self._pauses > 0
        log.info("Worker %s started, pid %d.", self.device.name, self.process.pid)

    def reap(self, stopping: bool) -> None:
        """If the process has ended, clear up after it and say when the next one starts."""
        process = self.process
        # WNOWAIT: until it is reaped its pid, the name of its group, cannot be taken by another.
        look = os.WEXITED | os.WNOHANG | os.WNOWAIT
        if process is None or os.waitid(os.P_PID, process.pid, look) is None:
            return
        self.kill()
        lived = time.monotonic() - self._started
        log.log(
            logging.INFO if stopping else logging.ERROR,
            "Worker %s ended with status %s after %.0f s.",
            *(self.device.name, process.returncode, lived),
        )
        self._count(process, lived)
        self._heard, self._how = None, ""
        if lived >= STEADY_SECONDS:
            self._pauses = 0
        self._put_off()
        if self._failures >= GIVE_UP_AFTER and not stopping:
            self.last_words = epitaph(self.settings, self.device, process.pid)
            log.critical(
                "Worker %s failed to load %d times in a row: its device is GIVEN UP and serves "
                "nothing until this supervisor is restarted.",
                *(self.device.name, self._failures),
            )

    def _put_off(self) -> None:
        """The next start is due after a pause."""
        self.due = time.monotonic() + min(self.first_pause * 2**self._pauses, LONGEST_PAUSE)
        self._pauses += 1

    def _count(self, process: subprocess.Popen[bytes], lived: float) -> None:
        """Whether that was one more load that failed; a worker that was ready begins anew."""
        heard, was_ready = self._heard, self._ready == process.pid
        if was_ready:
            self._failures = 0
        loading = (
            lived < self.healthy_after if heard is None else heard.state is WorkerState.STARTING
        )
        if process.returncode == LOAD_FAILED or (loading and not was_ready):
            self._failures += 1

    def ask_to_stop(self) -> None:
        """To the leader alone: Celery's own parent ends its pool in order."""
        if self.process is not None:
            self.process.terminate()

    def kill(self) -> None:
        """Kill the whole process group: no orphan may keep the memory of a GPU."""
        process, self.process = self.process, None
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@dataclass
class _Loop:
    turned: float = field(default_factory=time.monotonic)
    """When the supervisor's loop last turned, on the monotonic clock."""


def _supervise(
    children: Sequence[_Child], signals: Callable[[float], int | None], loop: _Loop
) -> int:
    stopping = False
    while True:
        loop.turned = time.monotonic()
        for child in children:
            child.reap(stopping)
            idle = child.process is None and not child.given_up
            if idle and not stopping and time.monotonic() >= child.due:
                child.start()
        running = [child for child in children if child.process is not None]
        if stopping and not running:
            return SOME_GIVEN_UP if any(child.given_up for child in children) else 0
        if all(child.given_up for child in children):
            log.critical("Every device was given up.")
            return 1
        if signals(_pause(children)) not in (signal.SIGTERM, signal.SIGINT):
            continue
        if stopping:
            log.warning("Told to stop a second time: killing the workers.")
            return 1
        stopping = True
        log.info("Told to stop: waiting for %d workers; once more kills them.", len(running))
        for child in running:
            child.ask_to_stop()


def _pause(children: Sequence[_Child]) -> float:
    """Seconds until a child is due; a second at most, in case a SIGCHLD was missed."""
    due = [child.due for child in children if child.process is None and not child.given_up]
    return max(0.01, min([1.0, *(moment - time.monotonic() for moment in due)]))


@contextmanager
def _signals() -> Iterator[Callable[[float], int | None]]:
    """Collect signals; yields a function that waits so many seconds for the next one."""
    # SimpleQueue.put is the one that may run in a signal handler: it is reentrant.
    arrived: SimpleQueue[int] = SimpleQueue()

    def wait(seconds: float) -> int | None:
        try:
            return arrived.get(timeout=seconds)
        except Empty:
            return None

    watched = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
    before = {number: signal.getsignal(number) for number in watched}
    for number in watched:
        signal.signal(number, lambda number, _frame: arrived.put(number))
    try:
        yield wait
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
