"""exporter: the fleet's metrics, for Prometheus and for whoever scales by them."""

from __future__ import annotations

from typing import Annotated

import typer

PORT = 9464


def exporter(
    host: Annotated[str, typer.Option(help="Address to bind.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port to bind.")] = PORT,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help="A model that is told of even if nothing else does; repeat."),
    ] = None,
) -> None:
    """Serve the lengths and ages of all queues, jobs that wait or run, and workers by state, at
    /metrics; /healthz says that it lives. It needs no worker, and only reads."""
    from medgemma_tasks.layout import model_slug
    from medgemma_tasks.logs import set_up_logs
    from medgemma_tasks.settings import load_settings
    from medgemma_worker.exporter.run import run

    settings = load_settings()
    set_up_logs(settings.log_format)
    for name in model or ():
        model_slug(name)  # refuses what is no name
    run(settings, host, port, model or ())
