"""POST /v1/explanations: from a body to a job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from starlette.datastructures import FormData, UploadFile

from medgemma_client import Job
from medgemma_client.errors import UploadMalformed
from medgemma_web.access import Service
from medgemma_web.answers import Accepted, JobStatus
from medgemma_web.asking import Question, read_question, read_question_with_images
from medgemma_web.described import SUBMITTED, SUBMITTING, problems
from medgemma_web.limits import Caller, one_job
from medgemma_web.uploads import JSON, PART_BYTES, kind_of

PARTS = {"request", "images", "study"}

router = APIRouter()


@router.post(
    "/v1/explanations",
    status_code=202,
    response_model=Accepted,
    responses=problems(*SUBMITTING),
    openapi_extra=SUBMITTED,
)
async def submit(
    request: Request,
    response: Response,
    key: Caller,
    service: Service,
    idempotency_key: Annotated[
        str | None, Header(pattern="^[!-~]{1,255}$", description="Of this question alone.")
    ] = None,
) -> Accepted:
    """Ask a question about images, or about a study.

    The same question is the same job, whoever of the tenant asks. With an Idempotency-Key the same
    request can be sent again safely, also with ``force``.
    """
    client = service.client(key.tenant)

    async def ask(question: Question, read: Callable[[], dict[str, Any]]) -> Job:
        # Read and used in one go, so that nothing but that holds the files.
        said = {**question.options(), "idempotency_key": idempotency_key}
        return await service.heavy(lambda: client.submit(**read(), **said))

    async with one_job(service, key), service.uploads.admitted(request):
        if kind_of(request) == JSON:
            body = await service.uploads.json(request)
            said = await service.heavy(lambda: read_question_with_images(body))
            job = await ask(said, lambda: {"images": said.files()})
        else:
            async with service.uploads.form(request) as form:
                question = await service.heavy(lambda: read_question(_question(form)))
                async with service.uploads.in_memory(_size(form)):
                    job = await ask(question, lambda: _pictures(form))
    status = JobStatus.of(await service.status(key.tenant, job.id, changed=True))
    response.headers["Location"] = status.links.self
    return Accepted(**dict(status), notes=job.notes)


def _question(form: FormData) -> bytes | str:
    if set(form) - PARTS or len(form.getlist("request")) > 1:
        raise UploadMalformed("The form has one part named request, and files; nothing else.")
    part = form.get("request")
    if part is None:
        raise UploadMalformed("The form has no part named request, with the question as JSON.")
    if isinstance(part, str):
        return part
    if (part.size or 0) > PART_BYTES:
        raise UploadMalformed(f"The part named request has more than {PART_BYTES:,} bytes.")
    return part.file.read()


def _size(form: FormData) -> int:
    """Bytes of all its files."""
    return sum(part.size or 0 for _, part in form.multi_items() if isinstance(part, UploadFile))


def _pictures(form: FormData) -> dict[str, Any]:
    """For ``Client.submit``."""
    images, study = form.getlist("images"), form.getlist("study")
    if len(study) > 1 or bool(images) == bool(study):
        raise UploadMalformed("The form has either parts named images, or one named study.")
    files = [part.file.read() for part in images + study if isinstance(part, UploadFile)]
    if len(files) < len(images + study):
        raise UploadMalformed("Images and study are files: their parts have a filename.")
    return {"images": files} if images else {"study": files[0]}
