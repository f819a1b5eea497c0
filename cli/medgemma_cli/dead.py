"""dead and requeue: the jobs that failed, and running them again."""

from __future__ import annotations

import json
import sys
from datetime import UTC
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medgemma_cli.jobs import Json
from medgemma_cli.terminal import folded
from medgemma_tasks.errors import JobNotFailed

if TYPE_CHECKING:
    from medgemma_tasks.dead import DeadJob
    from medgemma_tasks.models import Death

WIDTH = 80
"""Characters of a line at most."""

HEADER = f"{'JOB':32}  {'ENDED (UTC)':16} {'RUNS':>4}  CODE"


def dead(
    all_codes: Annotated[
        bool, typer.Option("--all-codes", help="Whatever failed, not only what killed its worker.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List jobs that killed each process that ran them, and what was known of each death.

    Of MEDGEMMA_TENANT. With --json one object a line.
    """
    from medgemma_client import Client

    number = 0
    for number, job in enumerate(Client().dead(all_codes=all_codes), start=1):
        if as_json:
            print(job.model_dump_json())
            continue
        if number == 1:
            print(HEADER)
        print(_line(job))
        for death in job.deaths:
            print(_told(death))
    if not as_json:
        print(f"{number} in all" if number else "none")
        if sys.stdout.isatty():
            print(folded(_next(number, all_codes=all_codes), sys.stdout))


def requeue(
    job_ids: Annotated[
        list[str] | None, typer.Argument(metavar="JOB", help="Jobs that ended badly.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All that `dead` lists without options.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run jobs again that failed or were cancelled. What they came to stays in their history."""
    from medgemma_client import Client
    from medgemma_tasks.layout import check_job_id

    if bool(job_ids) == everything:
        raise typer.BadParameter("name jobs, or give --all")
    client = Client()
    ids = (job.job_id for job in client.dead()) if everything else iter(job_ids or ())
    if not everything:
        ids = iter([check_job_id(job_id) for job_id in ids])  # all, before one is put back
    done: list[str] = []
    for job_id in ids:
        try:
            client.requeue(job_id)
        except JobNotFailed:
            if not everything:
                raise
            continue  # another was quicker
        done.append(job_id)
        if not as_json:
            print(f"{job_id} queued", flush=True)
    print(json.dumps({"requeued": done}) if as_json else f"{len(done)} queued again")


def _next(number: int, *, all_codes: bool) -> str:
    """What can be done about them, for eyes."""
    if number:
        return "Once the cause is known: medgemma-explainer requeue JOB"
    return "No job failed." if all_codes else "--all-codes lists whatever else failed."


def _line(job: DeadJob) -> str:
    ended = job.finished_at.astimezone(UTC)
    return f"{job.job_id}  {ended:%Y-%m-%d %H:%M} {job.attempts:4}  {job.code}"


def _told(death: Death) -> str:
    how: Any = death.signal
    if death.reason == "time_limit":
        how = "time limit"
    elif how is None:
        how = "died" if death.exit_status is None else f"exit {death.exit_status}"
    stage = "" if death.stage is None else death.stage.value
    memory = "" if death.memory_bytes is None else f"{death.memory_bytes / 1e9:.1f} GB"
    at = death.at.astimezone(UTC)
    line = (
        f"  run {death.attempt:<3} {how:10} {stage:10} {memory:>9}  {at:%H:%M:%S}  {death.worker}"
    )
    return line if len(line) <= WIDTH else line[: WIDTH - 3] + "..."
