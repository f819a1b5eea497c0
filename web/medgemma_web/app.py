"""The application: routes, and what is around each of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.middleware.cors import CORSMiddleware

from medgemma_client.models import Settings
from medgemma_web.around import QUIET, Around
from medgemma_web.backend import Backend
from medgemma_web.counting import Counting
from medgemma_web.described import describe
from medgemma_web.keys import KeyRing
from medgemma_web.problems import handle_problems
from medgemma_web.routes import jobs, service, submitting
from medgemma_web.routes.page import mount_page
from medgemma_web.settings import WebSettings


def make_app(settings: Settings, web: WebSettings, keys: KeyRing) -> FastAPI:
    """Reaches for nothing; the first request does."""
    backend = Backend(settings, web, keys)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        backend.start()
        await backend.ready()  # whoever comes first need not wait until both clients are made
        try:
            yield
        finally:
            backend.close()

    app = FastAPI(
        title="MedGemma explainer",
        version=version("medgemma-explainer"),
        docs_url=None,  # its page would come from another host
        redoc_url=None,
        redirect_slashes=False,  # behind a proxy it would lead from https to http, body and all
        lifespan=lifespan,
    )
    app.state.backend = backend
    handle_problems(app)
    app.add_middleware(Around, counting=backend.counting)
    if web.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=web.origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key"],
            expose_headers=["Location", "Retry-After"],
        )
    for routes in (submitting, jobs, service):
        app.include_router(routes.router)
        _expect(routes.router, backend.counting)
    mount_page(app)
    describe(app)
    return app


def _expect(router: APIRouter, counting: Counting) -> None:
    """Have what rules and dashboard look for counted from zero: of each route the good answer, and
    the errors of ours that it is said to give."""
    for route in router.routes:
        if isinstance(route, APIRoute) and route.path not in QUIET:
            ours = (status for status in map(int, route.responses) if status >= 500)
            for method in route.methods or ():
                counting.expect(route.path, method, (route.status_code or 200, *ours))
