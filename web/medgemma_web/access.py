"""Who calls: the key that a request shows."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from medgemma_client.errors import KeyUnknown
from medgemma_web.backend import Backend, backend
from medgemma_web.keys import ApiKey

_bearer = HTTPBearer(auto_error=False, description="A key of `medgemma-explainer keys add`.")


async def caller(
    request: Request,
    shown: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    service: Annotated[Backend, Depends(backend)],
) -> ApiKey:
    """The key. Raises KeyUnknown, in the same words for none and for a wrong one."""
    key = None if shown is None else service.keys.find(shown.credentials)
    if key is None:
        raise KeyUnknown("This needs a key that is known: Authorization: Bearer KEY.")
    request.state.key = key
    return key


Service = Annotated[Backend, Depends(backend)]
