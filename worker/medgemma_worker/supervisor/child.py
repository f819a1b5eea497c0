"""One device and the worker that serves it: started, heard, reaped, given up."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from medgemma_tasks.models import WorkerHealth, WorkerState
from medgemma_tasks.settings import Settings
from medgemma_worker.counters import Counters
from medgemma_worker.exits import LOAD_FAILED
from medgemma_worker.post import POST
from medgemma_worker.supervisor.devices import Device
from medgemma_worker.supervisor.rollcall import epitaph, node_name
from medgemma_worker.supervisor.tied import tied_to_parent

log = logging.getLogger(__name__)

STEADY_SECONDS = 600.0
"""After a child of this age the next pause is the shortest again."""

GIVE_UP_AFTER = 3
"""Loads that failed, in a row, after which a device is given up."""
LONGEST_PAUSE = 60.0
"""Seconds before a restart; each pause is twice the one before."""

STALE_SECONDS = 30.0
"""What a worker said is no news any more after so long: the roll is called every few seconds."""


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
class Child:
    """One device and the process group that serves it, if one does at the moment."""

    device: Device
    settings: Settings
    command: Sequence[str]
    healthy_after: float
    """Seconds: one of which nothing was heard, and that dies younger, failed to load."""
    first_pause: float
    """Seconds before the first restart."""
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
