"""sweep: delete what no job names any more."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from medgemma_cli.jobs import Json


def sweep(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Delete nothing; tell what would be.")
    ] = False,
    older_than: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Leave what is younger. The hard time limit and the visibility timeout, and an "
            "hour for probes, where it is not given.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Delete what killed workers left: artifacts that no result names, probes, keys in Redis.

    Over all tenants. A job without a result keeps everything.
    """
    from medgemma_tasks.live import LiveState
    from medgemma_tasks.settings import load_settings
    from medgemma_tasks.store import Store
    from medgemma_tasks.sweep import PROBE_AGE, Sweeper

    settings = load_settings()
    live = LiveState(settings)
    live.ping()
    probe_age = PROBE_AGE if older_than is None else older_than
    found = Sweeper(
        Store(settings), live, age=older_than, probe_age=probe_age, dry_run=dry_run
    ).sweep()
    if as_json:
        print(json.dumps(asdict(found)))
        return
    print(
        f"{'would delete' if dry_run else 'deleted'} {found.artifacts} artifacts and "
        f"{found.probes} probes ({found.size:,} bytes), {found.keys} keys in Redis; left "
        f"{found.young} artifacts that are too young, {found.unreadable} jobs that are unreadable"
    )
