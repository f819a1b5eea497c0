"""serve and keys: the gateway, and who may ask it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medgemma_cli.jobs import Json
from medgemma_tasks.errors import InvalidSettings, PartMissing

if TYPE_CHECKING:
    from medgemma_web.keys import ApiKey

File = Annotated[
    Path | None,
    typer.Option("--keys", help="File of keys, for MEDGEMMA_WEB_KEYS_FILE.", show_default=False),
]

keys = typer.Typer(help="The API keys of the gateway.", no_args_is_help=True)


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to bind; 127.0.0.1 otherwise.", show_default=False)
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Port; 8080 otherwise.", show_default=False)
    ] = None,
    file: File = None,
) -> None:
    """Serve the HTTP API, and the page, until SIGTERM or Ctrl-C.

    Settings are MEDGEMMA_WEB_... of the environment: docs/http-api.md.
    """
    _check_installed()
    from medgemma_tasks.logs import set_up_logs
    from medgemma_tasks.settings import load_settings
    from medgemma_web.server import serve as run
    from medgemma_web.settings import load_web_settings

    settings = load_settings()
    set_up_logs(settings.log_format)
    run(settings, load_web_settings(host=host, port=port, keys_file=file))


@keys.command()
def add(
    tenant: Annotated[str, typer.Option(help="Whose jobs are asked for with it.")],
    name: Annotated[str, typer.Option(help="For you, to tell keys apart.")] = "",
    requests_per_minute: Annotated[
        int | None, typer.Option(help="Limit of its own.", show_default=False)
    ] = None,
    jobs_per_day: Annotated[
        int | None, typer.Option(help="Quota of its own.", show_default=False)
    ] = None,
    file: File = None,
    as_json: Json = False,
) -> None:
    """Make a key, and print it this once. The file keeps its hash."""
    from medgemma_web.keys import add_key

    token, key = add_key(
        _file(file),
        tenant,
        name,
        requests_per_minute=requests_per_minute,
        jobs_per_day=jobs_per_day,
    )
    print(json.dumps({"id": key.id, "tenant": key.tenant, "key": token}) if as_json else token)


@keys.command("list")
def show(file: File = None, as_json: Json = False) -> None:
    """The keys by their ids. With --json one object a line."""
    from medgemma_web.keys import read_keys

    for key in read_keys(_file(file)):
        print(key.model_dump_json(exclude={"sha256"}) if as_json else _line(key))


@keys.command()
def remove(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `keys list` shows it.")],
    file: File = None,
) -> None:
    """Forget a key. A gateway that runs knows it within a second."""
    from medgemma_web.keys import remove_key

    if not remove_key(_file(file), key_id):
        raise typer.BadParameter("there is no key of that id")


def _line(key: ApiKey) -> str:
    return f"{key.id}  {key.created_at:%Y-%m-%d}  {key.tenant:20}  {key.name}".rstrip()


def _file(given: Path | None) -> Path:
    _check_installed()
    from medgemma_web.settings import load_web_settings

    path = given or load_web_settings().keys_file
    if path is None:
        raise InvalidSettings("Which file? Give --keys FILE, or set MEDGEMMA_WEB_KEYS_FILE.")
    return path


def _check_installed() -> None:
    try:
        import fastapi  # noqa: F401 - whether it is there
        import uvicorn  # noqa: F401
    except ImportError:
        raise PartMissing("The gateway needs medgemma-explainer[web].") from None
