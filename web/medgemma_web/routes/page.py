"""The page at /, and its files."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from medgemma_client.report import script_hash

PAGE = Path(__file__).parents[1] / "page"
"""``index.html``, and in ``static/`` what it refers to under /static/."""


class _Static(StaticFiles):
    """They hold no patient's data, but are to be asked for again when the gateway is newer."""

    def file_response(self, *args: object, **kwargs: object) -> Response:
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers["Cache-Control"] = "no-cache"
        return response


def mount_page(app: FastAPI) -> None:
    """Serve it, where it is there."""
    if not (PAGE / "index.html").exists():
        return

    policy = _may()

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        headers = {"Content-Security-Policy": policy, "Cache-Control": "no-cache"}
        return FileResponse(PAGE / "index.html", headers=headers)

    app.mount("/static", _Static(directory=PAGE / "static", check_dir=False), name="static")


def _may() -> str:
    """What the page may do: run its own files, and speak to this gateway alone.

    A report in its frame, or opened from it, is under this policy beside its own: hence that one
    script, by its hash, and styles in the text.
    """
    return (
        f"default-src 'none'; script-src 'self' '{script_hash()}'; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
