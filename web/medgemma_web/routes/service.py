"""What is asked of the gateway itself."""

from __future__ import annotations

from fastapi import APIRouter

from medgemma_web.access import Caller, Service
from medgemma_web.answers import Health, Models

router = APIRouter()


@router.get("/v1/models")
async def models(key: Caller, service: Service) -> Models:
    """The models that workers published."""
    client = service.client(key.tenant)
    return Models(models=await service.quick(client.models))


@router.get("/healthz")
async def healthz() -> Health:
    """Whether the gateway lives."""
    return Health()
