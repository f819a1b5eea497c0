"""What becomes of a job: its status, result, files and end."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from starlette.responses import HTMLResponse, Response

from medgemma_client import Job
from medgemma_client.errors import JobNotFound
from medgemma_web.access import Caller, Service
from medgemma_web.answers import JOB, JobResult, JobStatus

router = APIRouter(prefix="/v1/explanations/{job_id}")

JobId = Annotated[str, Path(examples=[JOB], description="As `id` of its status.")]


@router.get("")
async def status(job_id: JobId, key: Caller, service: Service) -> JobStatus:
    """Where a job stands."""
    client = service.client(key.tenant)
    return JobStatus.of(await service.quick(lambda: client.job(job_id).status()))


@router.get("/result")
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
        found = client.job(job_id).result()
        here = f"/v1/explanations/{job_id}/artifacts/"
        return JobResult.of(found, {name: here + name for name in found.record.artifacts})

    return await service.quick(look)


@router.get("/report", response_class=HTMLResponse)
async def report(job_id: JobId, key: Caller, service: Service) -> Response:
    """The report of a job that succeeded: one page, complete in itself."""
    client = service.client(key.tenant)
    page = await service.heavy(lambda: client.job(job_id).result().report_html())
    return HTMLResponse(page)


@router.get("/artifacts/{name}", response_class=Response)
async def artifact(job_id: JobId, name: str, key: Caller, service: Service) -> Response:
    """A file of a result, checked against its SHA-256."""
    client = service.client(key.tenant)

    def fetch() -> tuple[bytes, str]:
        found = client.job(job_id).result()
        if name not in found.record.artifacts:
            raise JobNotFound(f"Job {job_id} has no file of that name.", job_id=job_id)
        return found.artifact(name), found.record.artifacts[name].content_type

    content, content_type = await service.quick(fetch)
    return Response(content, media_type=content_type)


@router.delete("")
async def cancel(job_id: JobId, key: Caller, service: Service) -> JobStatus:
    """Cancel a job, for all of the tenant who asked the same. One that had ended stays as it is."""
    client = service.client(key.tenant)

    def end() -> Job:
        job = client.job(job_id)
        job.cancel()
        return job

    job = await service.quick(end)
    return JobStatus.of(await service.quick(job.status))
