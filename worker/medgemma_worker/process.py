"""What the one child of a worker holds: the loaded engine, and its ways to store and Redis.

The parent never comes here: it imports no torch and touches no device.
"""

from __future__ import annotations

import logging
import os
import signal

from medgemma_tasks.errors import MedGemmaError, ServiceError
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.settings import Settings
from medgemma_tasks.store import Store
from medgemma_worker.engine import Engine, load_engine
from medgemma_worker.failures import trace
from medgemma_worker.job import JobRunner
from medgemma_worker.shutdown import Flags

log = logging.getLogger(__name__)


class Process:
    """The child's engine and connections. There is one, made once."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self._settings = settings
        self._engine = engine
        self._store = Store(settings)
        self._live = LiveState(settings)
        self._published = False

    def runner(self, tenant: str) -> JobRunner:
        """What runs the jobs of a tenant."""
        live = self._live.of_tenant(tenant)
        return JobRunner(self._engine, Ledger(self._store, live), live, self._settings)

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


def start(settings: Settings, flags: Flags) -> None:
    """Load the engine: once, as the child starts.

    A child that cannot load ends its whole worker, loudly; a new child would fail the same way.
    """
    global _process
    flags.reset()
    try:
        engine = load_engine(settings)
    except MedGemmaError as error:
        _give_up(flags, f"{error.code}: {error.message}")
    except Exception as error:  # noqa: BLE001 - a loader may raise anything
        _give_up(flags, trace(error))
    else:
        _process = Process(settings, engine)
        _process.publish_model()


def current() -> Process:
    """This child's process. Only after ``start``."""
    if _process is None:
        raise RuntimeError("this process has not loaded its engine")
    return _process


def _give_up(flags: Flags, why: str) -> None:
    log.critical("the model cannot be loaded, so this worker ends. %s", why)
    flags.fail()
    logging.shutdown()
    os.kill(os.getppid(), signal.SIGTERM)
    os._exit(1)
