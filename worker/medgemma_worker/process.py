"""What the one child of a worker holds: the loaded engine, and its ways to store and Redis.

The parent never comes here: it imports no torch and touches no device.
"""

from __future__ import annotations

import logging
import os
import signal
from typing import NoReturn

from medgemma_tasks.errors import MedGemmaError, ServiceError
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.settings import Settings
from medgemma_tasks.store import Store
from medgemma_worker import memory
from medgemma_worker.board import Board
from medgemma_worker.engine import Engine, load_engine
from medgemma_worker.failures import trace
from medgemma_worker.job import JobRunner
from medgemma_worker.wrappers.cancellation import end_if_late, hear_stop

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
        self._published = False
        self._shards = 0

    def runner(self, tenant: str) -> JobRunner:
        """What runs the jobs of a tenant."""
        live = self._live.of_tenant(tenant)
        return JobRunner(self._engine, Ledger(self._store, live), live, self._settings, self._board)

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
    if board.loads > LOADS:
        _give_up(board, f"{LOADS} processes in a row died while they loaded it (out of memory?)")
    try:
        engine = load_engine(settings)
    except MedGemmaError as error:
        _give_up(board, f"{error.code}: {error.message}")
    except Exception as error:  # noqa: BLE001 - a loader may raise anything
        _give_up(board, trace(error))
    else:
        _process = Process(settings, engine, board)
        _process.publish_model()
        board.loaded()
        beat(board, settings.soft_time_limit)
        hear_stop(board)


def beat(board: Board, limit: float) -> None:
    """Let this process's main thread say again and again that it lives, and end a late job.

    By a timer's signal, since a thread of its own would live on while the main one hangs in a
    driver. It wakes the main thread also where that waits for its next job.
    """

    def strike(*_: object) -> None:
        board.beat()
        end_if_late(limit)

    signal.signal(signal.SIGALRM, strike)
    signal.setitimer(signal.ITIMER_REAL, BEAT, BEAT)


def current() -> Process:
    """This child's process. Only after ``start``."""
    if _process is None:
        raise RuntimeError("this process has not loaded its engine")
    return _process


def _give_up(board: Board, why: str) -> NoReturn:
    log.critical("the model cannot be loaded, so this worker ends. %s", why)
    board.fail()
    logging.shutdown()
    os.kill(os.getppid(), signal.SIGTERM)
    os._exit(1)
