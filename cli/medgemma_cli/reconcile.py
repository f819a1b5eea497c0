"""reconcile: put jobs that lost their message on the queue again, by hand."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medgemma_cli.jobs import Json
from medgemma_tasks.errors import JobNotFound

if TYPE_CHECKING:
    from medgemma_tasks.ledger import Ledger
    from medgemma_tasks.reconcile import Swept


def reconcile(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN|JOB",
            help="All jobs of a run, or one, of MEDGEMMA_TENANT; all tenants' where none is named.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Put jobs that have neither a result nor a message on the queue again.

    Supervisors do so by themselves, once each visibility timeout. Of a run it also tells how far
    it is.
    """
    from medgemma_tasks.ledger import Ledger
    from medgemma_tasks.live import LiveState
    from medgemma_tasks.reconcile import Reconciler, settling
    from medgemma_tasks.settings import load_settings
    from medgemma_tasks.store import Store

    settings = load_settings()
    store, live = Store(settings), LiveState(settings)
    live.ping()
    jobs = _jobs_of(Ledger(store, live), names) if names else None
    if not as_json:
        seconds = settling(settings)
        print(f"Listening for {seconds:.0f} s to what workers hold ...", file=sys.stderr)
    reconciler = Reconciler(store, live)
    # An id is looked for in our own tenant, as all commands do.
    tenants = None if jobs is None else [settings.tenant]
    swept = reconciler.sweep(tenants, jobs=jobs)
    if as_json:
        of_these = {} if jobs is None else _how_far(swept, jobs)
        print(json.dumps({**asdict(swept), **of_these}))
        return
    for job_id in swept.put_back:
        print(f"{job_id} put back")
    print(
        f"{len(swept.put_back)} put back; {swept.finished} finished, {swept.known} queued or "
        f"running, {swept.young} submitted just now, {swept.lately} put back lately, "
        f"{swept.unreadable} unreadable"
    )
    if jobs is not None:
        far = _how_far(swept, jobs)
        submitted = f", {far['unsubmitted']} never submitted" if far["unsubmitted"] else ""
        print(f"{swept.finished} of {far['jobs']} jobs have ended{submitted}")


def _jobs_of(ledger: Ledger, names: list[str]) -> set[str]:
    """The jobs that are meant: each by its id, or all of a run."""
    from medgemma_tasks.layout import is_job_id

    jobs: set[str] = set()
    for name in names:
        if not is_job_id(name):
            jobs.update(ledger.run_jobs(name))
        elif ledger.has_request(name):
            jobs.add(name)
        else:
            raise JobNotFound(
                f"There is no job {name} for tenant {ledger.tenant} in the store.", job_id=name
            )
    return jobs


def _how_far(swept: Swept, jobs: set[str]) -> dict[str, Any]:
    """What a sweep says of these jobs as a whole."""
    met = (swept.finished, swept.known, swept.young, swept.lately, swept.unreadable)
    return {"jobs": len(jobs), "unsubmitted": max(len(jobs) - sum(met) - len(swept.put_back), 0)}
