"""What the OpenAPI document says beyond what the code shows: bodies, every status, examples."""

from __future__ import annotations

from http import HTTPStatus
from json import dumps
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from medgemma_web.asking import EXAMPLE, Question, QuestionWithImages
from medgemma_web.problems import MEDIA_TYPE, Problem, fields
from medgemma_web.uploads import JSON, MULTIPART

Responses = dict[int | str, dict[str, Any]]

BODIES = (Question, QuestionWithImages, Problem)
"""Models that no route's signature names."""

WHY = {
    400: ("upload_malformed", "What was sent cannot be read."),
    401: ("key_unknown", "No key was shown, or one that is not known."),
    404: ("job_not_found", "There is no such job, for this key's tenant."),
    408: ("upload_too_slow", "It came too slowly."),
    409: ("job_not_finished", "The job has no result: not yet, or never."),
    413: ("upload_too_large", "The body is too large, and was not read."),
    415: ("upload_unknown_type", "Neither a multipart form nor JSON."),
    422: ("invalid_request", "The question, an image or a parameter cannot be used."),
    429: ("too_many_requests", "Too many requests, or jobs, of this key; see Retry-After."),
    431: ("head_too_large", "The head of the request is too large."),
    500: ("internal_error", "A defect of ours; the log has more under the id that is told."),
    502: ("artifact_damaged", "What lies in the store is not what was put there."),
    503: ("store_unreachable", "A part is away, or too much is under way; see Retry-After."),
}
"""Of each status a code that stands for it, and when it comes."""

OPEN = (400, 408, 431, 500)
"""What any request may meet."""
KEYED = (*OPEN, 401, 422, 429, 503)
"""And one that shows a key."""
OF_A_JOB = (*KEYED, 404)
OF_A_RESULT = (*OF_A_JOB, 409, 502)
SUBMITTING = (*KEYED, 409, 413, 415, 502)


def problems(*statuses: int) -> Responses:
    """Of each status its ``Problem``, for ``responses=``."""
    return {status: _problem(status) for status in sorted(statuses)}


def problems_or_pages(*statuses: int) -> Responses:
    """The same for what people open: who asks for HTML has the problem as a page."""
    found = problems(*statuses)
    for response in found.values():
        response["content"]["text/html"] = {"schema": {"type": "string"}}
    return found


def content(kind: str, said: str, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    """A response of another kind than JSON."""
    return {"description": said, "content": {kind: {"schema": schema or {"type": "string"}}}}


EVENTS = content(
    "text/event-stream",
    "Events, each a status, until the job has ended.",
    {
        "type": "object",
        "required": ["event", "data"],
        "properties": {
            "event": {"const": "status"},
            "data": {
                "type": "string",
                "contentMediaType": JSON,
                "contentSchema": {"$ref": "#/components/schemas/JobStatus"},
            },
        },
    },
)
"""The stream of a job."""

SUBMITTED = {
    "requestBody": {
        "required": True,
        "content": {
            MULTIPART: {
                "schema": {
                    "type": "object",
                    "required": ["request"],
                    "additionalProperties": False,
                    "properties": {
                        "request": {
                            "type": "string",
                            "contentMediaType": JSON,
                            "contentSchema": {"$ref": "#/components/schemas/Question"},
                            "description": "The question, as JSON.",
                        },
                        "images": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "description": "PNG, JPEG, TIFF or DICOM, in order.",
                        },
                        "study": {
                            "type": "string",
                            "format": "binary",
                            "description": "In place of images: a study, as a zip file.",
                        },
                    },
                },
                "encoding": {"request": {"contentType": JSON}},
                "example": {"request": dumps(EXAMPLE), "images": ["(the bytes of cxr.png)"]},
            },
            JSON: {
                "schema": {"$ref": "#/components/schemas/QuestionWithImages"},
                "example": {**EXAMPLE, "images": ["iVBORw0KGgo="]},
            },
        },
    }
}
"""The body of a question."""


def describe(app: FastAPI) -> None:
    """Have the application's document say all of it."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title,
                version=app.version,
                description=(
                    "Which regions and which words made MedGemma say so? "
                    "Research use, not for diagnosis."
                ),
                routes=app.routes,
            )
            schemas = made["components"]["schemas"]
            for model in BODIES:
                schemas.update(_schemas(model))
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _problem(status: int) -> dict[str, Any]:
    code, said = WHY[status]
    schema = {"$ref": "#/components/schemas/Problem"}
    shown = {"schema": schema, "example": fields(status, code, said)}
    return {"description": f"{HTTPStatus(status).phrase}. {said}", "content": {MEDIA_TYPE: shown}}


def _schemas(model: type[BaseModel]) -> dict[str, Any]:
    """Of a model and those within it, by name."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {**schema.pop("$defs", {}), model.__name__: schema}
