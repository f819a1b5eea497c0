"""The end of the demo: its job on the gateway's page, for as long as somebody looks."""

from __future__ import annotations

import html
import os
import sys
import time
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from medgemma_tasks.errors import PartMissing, ServiceError

PAUSE = 0.5
"""Seconds between two looks at whether all parts still run."""


def has_screen() -> bool:
    """Whether somebody sits before a terminal, and a browser could open a window there."""
    if "CI" in os.environ or not sys.stdout.isatty():
        return False
    drawn = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    return drawn or sys.platform in ("darwin", "win32")


def can_show() -> bool:
    """Whether the gateway is installed."""
    return find_spec("fastapi") is not None and find_spec("uvicorn") is not None


def show(ask: Callable[[], str], out: Path, *, browser: bool, alive: Callable[[], bool]) -> None:
    """Serve the page until Ctrl-C, or until a part that it needs has ended.

    ask: submits what is shown there, and gives its job's id. Raises PartMissing, ServiceError.
    """
    from medgemma_cli.embedded.gateway import EmbeddedGateway
    from medgemma_tasks.settings import load_settings

    if not can_show():
        raise PartMissing('The page needs pip install "medgemma-explainer[web]".', part="gateway")
    with EmbeddedGateway(load_settings().tenant) as gateway, suppress(KeyboardInterrupt):
        address = gateway.address(ask())
        print(f"\nThe page   {address}")
        print("           All stays up until Ctrl-C; the key is of this demo alone.", flush=True)
        with _door(out, address) as door:
            if browser:
                webbrowser.open(door.resolve().as_uri())
            while alive() and gateway.pid is not None:
                time.sleep(PAUSE)
        raise ServiceError("The worker or the gateway has ended; worker.log says why, maybe.")
    print("\nStopping ...", flush=True)


@contextmanager
def _door(out: Path, address: str) -> Iterator[Path]:
    """A file that leads to the page, for this user alone: whatever starts a browser writes what it
    opens into a command line, which every user of the machine can read."""
    path = out / "open.html"
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        to = html.escape(address)
        file.write(
            f'<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer">'
            f'<title>MedGemma explainer</title><meta http-equiv="refresh" content="0; url={to}">'
            f'<a href="{to}">Open the page</a>\n'
        )
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
