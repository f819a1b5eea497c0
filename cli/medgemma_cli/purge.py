"""purge: delete what runs left, once they said it may go, and what is older than an age."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from medgemma_cli.jobs import Json
from medgemma_cli.spelling import seconds


def purge(
    run: Annotated[
        str | None, typer.Option(help="Only what this run left.", show_default=False)
    ] = None,
    older_than: Annotated[
        float | None,
        typer.Option(
            parser=seconds,
            metavar="AGE",
            help="Since a run was last worked at, in place of what it said; without --run also "
            "since a job ended that no run names: 90d, 12h, 0s.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Delete nothing; tell what would be.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Delete what runs of MEDGEMMA_TENANT left whose --expire-after passed, and, oldest first, what
    is over their --max-bytes.

    A job that a run names which is kept is kept too. Inputs go with the last job that refers to
    them.
    """
    from medgemma_tasks.ledger import Ledger
    from medgemma_tasks.live import LiveState
    from medgemma_tasks.purge import Purger
    from medgemma_tasks.settings import load_settings
    from medgemma_tasks.store import Store

    settings = load_settings()
    live = LiveState(settings)
    live.ping()
    found = Purger(Ledger(Store(settings), live), dry_run=dry_run).purge(run, older_than)
    if as_json:
        print(json.dumps(asdict(found)))
        return
    for name in found.runs:
        print(f"{name} {'would go' if dry_run else 'is gone'}")
    print(
        f"{'would delete' if dry_run else 'deleted'} {len(found.runs)} runs, {found.jobs} jobs and "
        f"{found.inputs} inputs ({found.size:,} bytes); kept {found.shared} jobs that another run "
        f"names, {found.unfinished} without a result, {found.young} asked again just now"
    )
    if found.unreadable:
        print(f"{found.unreadable} requests are unreadable by this version: no input was deleted")
