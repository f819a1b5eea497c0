"""worker: serve one model, with one worker process group on each device."""

from __future__ import annotations

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
    from medgemma_tasks.logs import set_up_logs
    from medgemma_tasks.settings import load_settings
    from medgemma_tasks.tracing import check
    from medgemma_worker.supervisor.devices import parse_devices
    from medgemma_worker.supervisor.launcher import launch

    check()
    settings = load_settings()
    set_up_logs(settings.log_format)
    raise typer.Exit(launch(settings, parse_devices(gpus)))
