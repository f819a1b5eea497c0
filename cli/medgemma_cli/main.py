"""``medgemma-explainer``: its commands, and how an error ends them."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated, NoReturn

import typer

from medgemma_cli import backfill as backfill_command
from medgemma_cli import dead, demo, drain, evaluate, jobs, layers
from medgemma_cli import doctor as doctor_command
from medgemma_cli import exporter as exporter_command
from medgemma_cli import purge as purge_command
from medgemma_cli import queue as queue_command
from medgemma_cli import reconcile as reconcile_command
from medgemma_cli import serve as serve_command
from medgemma_cli import sweep as sweep_command
from medgemma_cli import worker as worker_command
from medgemma_cli.terminal import folded
from medgemma_tasks.errors import InternalError, InvalidRequest, MedGemmaError

WRONG_USAGE = 2
"""The exit status that Typer gives."""

app = typer.Typer(
    name="medgemma-explainer",
    help="Which regions and which words made MedGemma say so? Research use, not for diagnosis.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.command("worker")(worker_command.worker)
app.command("submit")(jobs.submit)
app.command("status")(jobs.status)
app.command("fetch")(jobs.fetch)
app.command("cancel")(jobs.cancel)
app.command("backfill")(backfill_command.backfill)
app.command("doctor")(doctor_command.doctor)
app.command("queue")(queue_command.queue)
app.command("drain")(drain.drain)
app.command("exporter")(exporter_command.exporter)
app.command("reconcile")(reconcile_command.reconcile)
app.command("dead")(dead.dead)
app.command("requeue")(dead.requeue)
app.command("sweep")(sweep_command.sweep)
app.command("purge")(purge_command.purge)
app.command("serve")(serve_command.serve)
app.add_typer(serve_command.keys, name="keys")
app.command("evaluate")(evaluate.evaluate)
app.command("layers")(layers.layers)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("medgemma-explainer"))
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Settings come from the environment (MEDGEMMA_BROKER_URL and so on: docs/settings.md)."""


def run() -> None:
    """Entry point. Exit status 0; 1 for an error that was foreseen, 2 for wrong usage, 70 for a
    defect of ours, 130 on Ctrl-C. MEDGEMMA_DEBUG shows the trace of what nobody foresaw."""
    debug = "MEDGEMMA_DEBUG" in os.environ  # now, since the demo clears such variables
    try:
        app()
    except MedGemmaError as error:
        _end(1, error.code, error.message)
    except SystemExit as end:
        if end.code == WRONG_USAGE and _for_machines():
            _end(WRONG_USAGE, InvalidRequest.code, "Wrong usage; standard error says what.")
        raise
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if debug:
            raise
        # Neither text nor path of the error: they may hold a patient's name.
        if isinstance(error, OSError):
            _end(1, MedGemmaError.code, f"{error.strerror or type(error).__name__}.")
        _end(
            os.EX_SOFTWARE,
            InternalError.code,
            f"A defect of ours ({type(error).__name__}); MEDGEMMA_DEBUG=1 shows where.",
        )


def _end(status: int, code: str, message: str) -> NoReturn:
    if _for_machines():
        print(json.dumps({"error": {"code": code, "message": message}}))
    else:
        print(folded(f"{message} [{code}]", sys.stderr), file=sys.stderr)
    sys.exit(status)


def _for_machines() -> bool:
    return "--json" in sys.argv
