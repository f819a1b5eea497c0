"""What becomes of a job: its status, result, files and end."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import HTMLResponse, Response, StreamingResponse

from medgemma_client import Client, Job, Result
from medgemma_client.errors import ArtifactDamaged, JobNotFound, MedGemmaError, ServiceError
from medgemma_web.access import Service
from medgemma_web.answers import JOB, JobQuestion, JobResult, JobStatus
from medgemma_web.described import EVENTS, OF_A_JOB, OF_A_RESULT, problems, problems_or_pages
from medgemma_web.events import stream
from medgemma_web.limits import Caller
from medgemma_web.problems import NoResult

REPORT_MAY = (
    "sandbox allow-scripts allow-downloads allow-modals; default-src 'none'; img-src data: blob:; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'; font-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'"
)
"""What the report's page may do: run what it carries, and fetch nothing from anywhere."""

BYTES = {
    "description": "The file.",
    "content": {
        kind: {"schema": {"type": "string", "format": "binary"}}
        for kind in ("image/png", "application/octet-stream", "application/zip")
    },
}

router = APIRouter(prefix="/v1/explanations/{job_id}")


async def known_form(job_id: Annotated[str, Path(examples=[JOB], description="Of a job.")]) -> str:
    """The id. One that none could have is as unknown as any other: JobNotFound."""
    if not re.fullmatch("[0-9a-f]{32}", job_id):
        raise JobNotFound("There is no job of that id.")
    return job_id


JobId = Annotated[str, Depends(known_form)]


class Events(StreamingResponse):
    """Server-sent events."""

    media_type = "text/event-stream"


def there(client: Client, job_id: str) -> Job:
    """A job. Raises JobNotFound, which says nothing of where it was looked for."""
    try:
        return client.job(job_id)
    except JobNotFound:
        raise JobNotFound(f"There is no job {job_id}.", job_id=job_id) from None


def finished(client: Client, job_id: str) -> Result:
    """The result of a job. Raises NoResult, with the job's own error, where it has none."""
    job = there(client, job_id)
    try:
        return job.result()
    except (JobNotFound, ServiceError, ArtifactDamaged):
        raise
    except MedGemmaError as error:
        raise NoResult(error) from None


@router.get("", responses=problems(*OF_A_JOB))
async def status(job_id: JobId, key: Caller, service: Service) -> JobStatus:
    """Where a job stands."""
    return JobStatus.of(await service.status(key.tenant, job_id))


@router.get("/question", responses=problems(*OF_A_JOB))
async def question(job_id: JobId, key: Caller, service: Service) -> JobQuestion:
    """What was asked."""
    client = service.client(key.tenant)
    return JobQuestion.of(await service.quick(lambda: there(client, job_id).request()))


@router.get(
    "/events",
    response_class=Events,
    responses={200: EVENTS, **problems(*OF_A_JOB)},
)
async def events(job_id: JobId, key: Caller, service: Service) -> Response:
    """How far a job is, as it goes on: server-sent events, each a status, until it has ended."""
    first = await service.status(key.tenant, job_id)
    headers = {"X-Accel-Buffering": "no"}  # nginx would hold them back until they are many
    return Events(stream(service, key, first), headers=headers)


@router.get("/result", responses=problems(*OF_A_RESULT))
async def result(
    job_id: JobId,
    key: Caller,
    service: Service,
    urls: Annotated[
        Literal["gateway", "presigned"],
        Query(description="Where the files' addresses lead: here, or for a while to the store."),
    ] = "gateway",
) -> JobResult:
    """What a job that succeeded came to."""
    client = service.client(key.tenant)

    def look() -> JobResult:
        found = finished(client, job_id)
        here = f"/v1/explanations/{job_id}/artifacts/"
        addresses = {name: here + name for name in found.record.artifacts}
        if urls == "presigned":
            addresses = found.artifact_urls(service.web.url_seconds, service.web.public_store_url)
        return JobResult.of(found, addresses)

    return await service.quick(look)


@router.get("/report", response_class=HTMLResponse, responses=problems_or_pages(*OF_A_RESULT))
async def report(job_id: JobId, key: Caller, service: Service) -> Response:
    """The report of a job that succeeded: one page, complete in itself. Why there is none is a page
    too for who asks for ``text/html``, as browsers do."""
    client = service.client(key.tenant)
    page = await service.heavy(lambda: finished(client, job_id).report_html())
    return HTMLResponse(page, headers={"Content-Security-Policy": REPORT_MAY})


@router.get(
    "/artifacts/{name}",
    response_class=Response,
    responses={200: BYTES, **problems(*OF_A_RESULT)},
)
async def artifact(job_id: JobId, name: str, key: Caller, service: Service) -> Response:
    """A file of a result, checked against its SHA-256."""
    client = service.client(key.tenant)

    def fetch() -> tuple[bytes, str]:
        found = finished(client, job_id)
        if name not in found.record.artifacts:
            raise JobNotFound(f"Job {job_id} has no file of that name.", job_id=job_id)
        return found.artifact(name), found.record.artifacts[name].content_type

    content, content_type = await service.quick(fetch)
    return Response(content, media_type=content_type)


@router.delete("", responses=problems(*OF_A_JOB))
async def cancel(job_id: JobId, key: Caller, service: Service) -> JobStatus:
    """Cancel a job, for all of the tenant who asked the same. One that had ended stays as it is."""
    client = service.client(key.tenant)

    await service.quick(lambda: there(client, job_id).cancel())
    return JobStatus.of(await service.status(key.tenant, job_id, changed=True))
