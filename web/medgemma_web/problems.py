"""Errors as ``application/problem+json`` (RFC 9457), each with our stable code."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, Field
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.responses import Response

from medgemma_client import errors
from medgemma_web.opened import as_page, wants_page

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

STATUS: dict[type[errors.MedGemmaError], int] = {
    errors.MedGemmaError: 500,
    errors.InputError: 422,
    errors.RequestError: 422,
    errors.ModelError: 422,
    errors.JobError: 409,
    errors.JobNotFound: 404,
    errors.ArtifactDamaged: 502,
    errors.ServiceError: 503,
    errors.GatewayError: 400,
    errors.KeyUnknown: 401,
    errors.TooManyRequests: 429,
    errors.QuotaUsedUp: 429,
    errors.TooManyUploads: 503,
    errors.UploadTooLarge: 413,
    errors.UploadTooSlow: 408,
    errors.UploadUnknownType: 415,
}
"""Of each error, or of the nearest one above it in the tree."""

OF_HTTP = {404: "route_not_found", 405: "method_not_allowed", 413: "upload_too_large"}
"""Codes of what the framework itself turns away."""

MOST_FAULTS = 10
"""Of one question, that are told."""

RETRY_SECONDS = 5
"""What a caller is told to wait who met a part that was away."""


class Problem(BaseModel):
    """What went wrong."""

    type: str = Field(examples=["urn:medgemma-explainer:job_not_found"])
    title: str = Field(examples=["Job not found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["There is no job 0123456789abcdef0123456789abcdef."])
    code: str = Field(examples=["job_not_found"])
    """Stable: what a program decides by."""
    id: str | None = None
    """Of a defect of ours: what its line in the gateway's log is named by."""
    image: int | None = None
    """Which of the images it is about, from 0, as the prompt counts them."""


class NoResult(Exception):
    """A job has no result, and ``error`` is why."""

    def __init__(self, error: errors.MedGemmaError) -> None:
        self.error = error


def status_of(error: errors.MedGemmaError) -> int:
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    retry_after: int | None = None,
    **more: Any,
) -> JSONResponse:
    headers = {}
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({**fields(status, code, detail), **more}, status, headers, MEDIA_TYPE)


def fields(status: int, code: str, detail: str) -> dict[str, Any]:
    """The fields of a ``Problem``."""
    return {
        "type": f"urn:medgemma-explainer:{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "detail": detail,
        "code": code,
    }


def problem_of(error: errors.MedGemmaError) -> JSONResponse:
    """An error of ours. What it says of addresses within is for the operator alone."""
    status = status_of(error)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("answered %d (%s)", status, error.code)
    detail = error.message
    if isinstance(error, errors.ServiceError) and not isinstance(error, errors.QueueFull):
        detail = "A part of the service cannot be used at the moment; try again later."
    retry_after = error.details.get("retry_after")
    if retry_after is None and status == HTTPStatus.SERVICE_UNAVAILABLE:
        retry_after = RETRY_SECONDS
    which = {"image": error.details["image"]} if "image" in error.details else {}
    return problem(status, error.code, detail, retry_after=retry_after, **which)


def defect(error: BaseException) -> JSONResponse:
    """What nobody foresaw: an id and no text, which may hold a patient's name. The log has where
    it was raised."""
    number = secrets.token_hex(8)
    log.error("defect %s: %s at %s", number, type(error).__name__, _where(error))
    return problem(
        500,
        errors.InternalError.code,
        "A defect of ours. Tell whoever runs this gateway its id.",
        id=number,
    )


def faults(found: Iterable[ErrorDetails] | Iterable[dict[str, Any]]) -> str:
    """What a validation found, in words that quote nothing of what was sent."""
    told: dict[str, None] = {}  # in order, and none twice
    for fault in found:
        place, message = tuple(fault["loc"]), fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":  # its place is what was sent
            place, message = place[:-1], "has a field that is not known here"
        told[" ".join([".".join(map(str, place)) or "It", message])] = None
        if len(told) == MOST_FAULTS:
            break
    return "; ".join(told) + "."


def handle_problems(app: FastAPI) -> None:
    """Have all errors answered so."""

    @app.exception_handler(errors.MedGemmaError)
    async def ours(request: Request, error: errors.MedGemmaError) -> Response:
        return _shown(request, problem_of(error))

    @app.exception_handler(NoResult)
    async def none(request: Request, found: NoResult) -> Response:
        return _shown(request, problem(409, found.error.code, found.error.message))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return problem(422, errors.InvalidRequest.code, faults(error.errors()))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        status = HTTPStatus(error.status_code)
        code = OF_HTTP.get(status, "http_error")
        answer = problem(status, code, f"{status.phrase}.")
        answer.headers.update(error.headers or {})
        return answer


def _shown(request: Request, answer: Response) -> Response:
    """A problem as it is asked for: where the answer were a page, a person may have opened it."""
    page = getattr(request.scope.get("route"), "response_class", None) is HTMLResponse
    if page and wants_page(request.headers.get("accept", "")):
        return as_page(request, answer)
    return answer


def _where(error: BaseException) -> str:
    """The innermost place of ours that it passed, without its text."""
    trace, place = error.__traceback__, "nowhere"
    while trace is not None:
        code = trace.tb_frame.f_code
        module = trace.tb_frame.f_globals.get("__name__", "?")
        place = f"{module}.{code.co_name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place
