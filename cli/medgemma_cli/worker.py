"""worker: serve one model, with one worker process group on each device."""

from __future__ import annotations

import logging
from typing import Annotated

import typer


def worker(
    gpus: Annotated[
        str,
        typer.Option(
            "--gpus", help="all, cpu, or a list of indices, GPU-... or MIG-... UUIDs with commas."
        ),
    ] = "all",
) -> None:
    """Serve the model that MEDGEMMA_MODEL names, one worker per GPU.

    SIGTERM or Ctrl-C lets running jobs end; a second one stops at once.
    """
    from medgemma_tasks.settings import load_settings
    from medgemma_worker.supervisor.devices import parse_devices
    from medgemma_worker.supervisor.launcher import launch

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    raise typer.Exit(launch(load_settings(), parse_devices(gpus)))
