"""What the one child of a worker holds: the loaded engine, and its ways to store and Redis.

The parent never comes here: it imports no torch and touches no device.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

from celery.signals import worker_process_shutdown

from medgemma_tasks import tracing
from medgemma_tasks.errors import MedGemmaError, ServiceError
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.putting_back import Publisher
from medgemma_tasks.queue import Shard
from medgemma_tasks.settings import Settings
from medgemma_tasks.store import Store
from medgemma_worker import memory
from medgemma_worker.board import Board
from medgemma_worker.delivery import Delivery
from medgemma_worker.device import Device
from medgemma_worker.engine import Engine, load_engine
from medgemma_worker.failures import trace
from medgemma_worker.guests import Guests
from medgemma_worker.job import JobRunner
from medgemma_worker.places import PLACES
from medgemma_worker.shift import Shift
from medgemma_worker.visits import Visits
from medgemma_worker.wrappers.cancellation import STOP

log = logging.getLogger(__name__)

BEAT = 1.0
"""Seconds between two beats of the child's heart."""

STORE_CALLS = 4
"""Calls to the store that the jobs of a worker make at once. Many workers that start on a shard at
the same moment would else ask for so much that none is answered in time, again and again."""

LOADS = 3
"""Children that may die in a row while they load; then the worker ends."""


class Process:
    """The child's engine and connections. There is one, made once."""

    def __init__(self, settings: Settings, engine: Engine, board: Board) -> None:
        self._settings = settings
        self._engine = engine
        self._board = board
        self._store = Store(settings, STORE_CALLS)
        self._live = LiveState(settings)
        self._device = Device(engine, board, settings.longest_step)
        self._pool = ThreadPoolExecutor(PLACES, "job")
        self._publish = Publisher(settings)
        self._visits = Visits(
            Guests(settings), board, lambda shard: self.delivery(shard, batch=False)
        )
        self._published = False
        self._shards = 0

    def runner(self, tenant: str) -> JobRunner:
        """What runs the jobs of a tenant."""
        live = self._live.of_tenant(tenant)
        return JobRunner(
            self._engine,
            self._device,
            Ledger(self._store, live),
            live,
            self._settings,
            self._board,
        )

    def delivery(self, shard: Shard, *, batch: bool) -> Delivery:
        """A message in hand; ``batch``: it came from the batch queue, and goes back there."""

        def put_back(job_id: str) -> None:
            self._publish(self._settings.model, shard.tenant, job_id, batch)

        return Delivery(shard, self.runner(shard.tenant), put_back)

    def serve(self, delivery: Delivery, *, batch: bool) -> None:
        """Run the jobs of a message, and tell how fast that went. Guests come into a batch one."""
        began, busy, done = time.monotonic(), self._device.busy, self._board.done
        shift = Shift(
            self._device,
            self._pool,
            draining=lambda: self._board.draining,
            next_guest=self._visits.next if batch else lambda: None,
        )
        shift.serve(delivery)
        seconds = max(time.monotonic() - began, 1e-9)
        busy, done = self._device.busy - busy, self._board.done - done
        self._board.note_speed(done / seconds, self._device.batching.advised)
        log.info(
            "a message of %d jobs took %.2f s, of which the device worked %.0f%%",
            *(len(delivery.jobs), seconds, 100 * busy / seconds),
        )

    def beat(self) -> None:
        """By a timer's signal: this process's main thread lives, and a step that is late ends."""
        self._board.beat()
        self._device.end_if_late(self._settings.soft_time_limit)

    def hear_stop(self) -> None:
        """By a signal of the parent's: see ``Device.hear_stop``."""
        self._device.hear_stop()

    def tidy_up(self) -> None:
        """After a shard: what its jobs used goes back to the system, now and then."""
        self._shards += 1
        if self._shards % memory.EVERY == 0:
            memory.trim()

    def publish_model(self) -> None:
        """Say in the store what is served. Until that works, it is tried before each shard."""
        if self._published:
            return
        served = self._engine.served
        try:
            Ledger(self._store, self._live).publish_model(served)
        except ServiceError as error:
            log.error(
                "models/%s.json could not be written (%s): clients cannot submit to this model "
                "until it is",
                served.name,
                error.code,
            )
            return
        self._published = True
        log.info("serving %s at revision %s", served.name, served.revision)


_process: Process | None = None


def start(settings: Settings, board: Board) -> None:
    """Load the engine: once, as the child starts.

    A child that cannot load ends its whole worker, loudly; a new child would fail the same way. So
    does one whose LOADS predecessors died over it.
    """
    global _process
    board.begin_loading(os.getpid())
    board.counters.note_memory(0, 0, 0)  # until there is a model, nothing is known
    if board.loads > LOADS:
        _give_up(board, f"{LOADS} processes in a row died while they loaded it (out of memory?)")
    began = time.monotonic()
    try:
        if tracing.instrument("medgemma-worker", consumes=True):
            worker_process_shutdown.connect(_flush, weak=False, dispatch_uid="medgemma")
        engine = load_engine(settings)
    except MedGemmaError as error:
        _give_up(board, f"{error.code}: {error.message}")
    except Exception as error:  # noqa: BLE001 - a loader may raise anything
        _give_up(board, trace(error))
    else:
        board.counters.loaded(time.monotonic() - began)
        board.counters.note_memory(*memory.of_device())
        _process = Process(settings, engine, board)
        _process.publish_model()
        board.loaded()
        hear(_process)


def hear(here: Process) -> None:
    """Let signals reach this process's main thread, which has the device.

    It says again and again that it lives by a timer's signal, since a thread of its own would live
    on while the main one hangs in a driver.
    """
    signal.signal(signal.SIGALRM, lambda *_: here.beat())
    signal.setitimer(signal.ITIMER_REAL, BEAT, BEAT)
    signal.signal(STOP, lambda *_: here.hear_stop())


def current() -> Process:
    """This child's process. Only after ``start``."""
    if _process is None:
        raise RuntimeError("this process has not loaded its engine")
    return _process


def _flush(**_: object) -> None:
    tracing.flush()


def _give_up(board: Board, why: str) -> NoReturn:
    log.critical("the model cannot be loaded, so this worker ends. %s", why)
    board.fail()
    logging.shutdown()
    os.kill(os.getppid(), signal.SIGTERM)
    os._exit(1)
