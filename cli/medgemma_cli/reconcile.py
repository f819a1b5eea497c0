"""reconcile: put jobs that lost their message on the queue again, by hand."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from medgemma_cli.jobs import Json
from medgemma_tasks.errors import JobNotFound


def reconcile(
    job_ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[JOB]...", help="These alone; all tenants' jobs where none is."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Put jobs that have neither a result nor a message on the queue again.

    Supervisors do so by themselves, once each visibility timeout.
    """
    from medgemma_tasks.ledger import Ledger
    from medgemma_tasks.live import LiveState
    from medgemma_tasks.reconcile import Reconciler, settling
    from medgemma_tasks.settings import load_settings
    from medgemma_tasks.store import Store

    settings = load_settings()
    store, live = Store(settings), LiveState(settings)
    live.ping()
    for job_id in job_ids or ():
        if not Ledger(store, live).has_request(job_id):
            raise JobNotFound(
                f"There is no job {job_id} for tenant {settings.tenant} in the store.",
                job_id=job_id,
            )
    if not as_json:
        seconds = settling(settings)
        print(f"Listening for {seconds:.0f} s to what workers hold ...", file=sys.stderr)
    reconciler = Reconciler(store, live)
    # An id is looked for in our own tenant, as all commands do.
    swept = reconciler.sweep([settings.tenant], jobs=job_ids) if job_ids else reconciler.sweep()
    if as_json:
        print(json.dumps(asdict(swept)))
        return
    for job_id in swept.put_back:
        print(f"{job_id} put back")
    print(
        f"{len(swept.put_back)} put back; {swept.finished} finished, {swept.known} queued or "
        f"running, {swept.young} submitted just now, {swept.lately} put back lately, "
        f"{swept.unreadable} unreadable"
    )
