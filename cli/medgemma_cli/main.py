"""``medgemma-explainer``: its commands, and how an error ends them."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from medgemma_cli import demo, jobs
from medgemma_cli import worker as worker_command
from medgemma_tasks.errors import MedGemmaError

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
    """Settings come from the environment (MEDGEMMA_BROKER_URL and so on; see the README)."""


def run() -> None:
    """Entry point: exit status 0, 1 for an error of ours, 2 for wrong usage, 130 on Ctrl-C."""
    try:
        app()
    except MedGemmaError as error:
        if "--json" in sys.argv:
            print(json.dumps({"error": {"code": error.code, "message": error.message}}))
        else:
            print(f"{error.message} [{error.code}]", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
