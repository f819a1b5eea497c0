"""The worker's Celery app, and the program that runs one worker:
``python -m medgemma_worker.app [NAME [COUNTERS]]``.

It serves the one device that its environment shows it, with one child. The parent imports no torch.
"""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from medgemma_tasks.layout import model_slug
from medgemma_tasks.settings import Settings, load_settings

if TYPE_CHECKING:
    from celery import Celery

    from medgemma_worker.counters import Counters


def make_worker_app(settings: Settings, counters: Counters | None = None) -> Celery:
    """The app of a worker: the queues' settings, the task, and what its child does at its start.

    counters: what its child counts in; a page of its own where nobody watches.
    """
    from billiard.util import get_logger
    from celery.signals import setup_logging, worker_process_init

    from medgemma_tasks.live import LiveState
    from medgemma_tasks.logs import set_up_logs
    from medgemma_tasks.queue import make_app
    from medgemma_worker import process, task
    from medgemma_worker.board import Board
    from medgemma_worker.parent import shutdown
    from medgemma_worker.parent.health import Health, Voice, device_of
    from medgemma_worker.parent.intake import Intake
    from medgemma_worker.parent.lanes import Lanes, order_by
    from medgemma_worker.parent.lease import Lease
    from medgemma_worker.parent.running import Running
    from medgemma_worker.parent.taken_out import TakenOut
    from medgemma_worker.parent.watch import Watch

    app, board, live = make_app(settings), Board(counters), LiveState(settings)
    # What the parent's steps and requests work with.
    app.board, app.live = board, live  # type: ignore[attr-defined]
    app.voice = Voice(settings, board, live)  # type: ignore[attr-defined]
    task.register(app, settings, board)
    app.steps["consumer"].update((Health, Intake, Lanes, Lease, Running, TakenOut, Watch))
    app.conf.broker_transport_options["queue_order_strategy"] = order_by(board)
    shutdown.install(app, board)

    def start(**_: Any) -> None:
        process.start(settings, board)

    def log_json(**_: Any) -> None:
        set_up_logs("json", device=device_of(os.environ, settings.device))
        get_logger().propagate = True  # the pool's own, which would write lines by itself

    worker_process_init.connect(start, weak=False, dispatch_uid="medgemma")
    if settings.log_format == "json":
        log_json()  # now: Celery warns of this and that before it sets up logs
        # Whoever is connected keeps it from doing so in a way of its own, in parent and child.
        setup_logging.connect(log_json, weak=False, dispatch_uid="medgemma")
    return app


def main(name: str | None = None, counters: str | None = None) -> None:
    """Run a worker until it is told to stop. SIGTERM lets the running job go on for
    MEDGEMMA_SHUTDOWN_GRACE seconds, then gives it back to the queue.

    ``name`` tells it from the others of this host; the supervisor gives that of its device and the
    descriptor of what its child counts in, and reconciles for all its workers. One that runs alone
    has a process beside it that does so, and serves its metrics.
    """
    os.environ.setdefault("REMAP_SIGTERM", "SIGQUIT")  # read when celery is imported
    from medgemma_worker.counters import Counters
    from medgemma_worker.parent.health import device_of
    from medgemma_worker.parent.tended import Tended
    from medgemma_worker.supervisor.beside import beside_this_process

    supervised = name is not None
    page, file = Counters.shared() if counters is None else (Counters(int(counters)), int(counters))
    settings = load_settings()
    name = name or f"{model_slug(settings.model)}-{os.getpid()}"
    app = make_worker_app(settings, page)
    device = device_of(os.environ, settings.device)
    with nullcontext() if supervised else beside_this_process(name, device, file) as beside:
        if beside is not None:
            app.beside = beside  # type: ignore[attr-defined]
            app.steps["consumer"].add(Tended)
        app.worker_main(
            [
                # Its banner is no JSON.
                *(["--quiet"] if settings.log_format == "json" else []),
                "worker",
                "--loglevel=INFO",
                # No worker needs to know the others: mingling and gossip only delay the start.
                "--without-mingle",
                "--without-gossip",
                "--without-heartbeat",
                f"--hostname={name}@%h",
            ]
        )


def __getattr__(name: str) -> Any:
    # For ``celery -A medgemma_worker.app`` (Flower, inspect); made when it is asked for.
    if name == "app":
        return make_worker_app(load_settings())
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
