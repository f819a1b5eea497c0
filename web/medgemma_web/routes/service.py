"""What is asked of the gateway itself."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from medgemma_web.access import Service
from medgemma_web.answers import Health, Models, Readiness
from medgemma_web.described import KEYED, OPEN, content, problems
from medgemma_web.limits import Caller

router = APIRouter()


@router.get("/v1/models", responses=problems(*KEYED))
async def models(key: Caller, service: Service) -> Models:
    """The models that workers published, and how much a question may hold."""
    client = service.client(key.tenant)
    return Models(models=await service.quick(client.models), limits=service.limits)


@router.get("/healthz", responses=problems(*OPEN))
async def healthz() -> Health:
    """Whether the gateway lives."""
    return Health()


@router.get(
    "/readyz",
    responses={503: {"model": Readiness, "description": "Not ready."}, **problems(*OPEN)},
)
async def readyz(service: Service, response: Response) -> Readiness:
    """Whether Redis and the store answer it, and which does not."""
    redis, store = await service.ready()
    ready = redis and store and not service.stopping
    response.status_code = 200 if ready else 503
    return Readiness(status="ready" if ready else "not ready", redis=redis, store=store)


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: content("text/plain", "Prometheus's text format."), **problems(*OPEN)},
)
async def metrics(service: Service) -> Response:
    """For Prometheus."""
    return Response(service.counting.page(), media_type=CONTENT_TYPE_LATEST)
