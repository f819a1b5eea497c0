"""What the API answers."""

from __future__ import annotations

from datetime import datetime
from itertools import chain
from typing import Literal, Self

from pydantic import BaseModel, Field

from medgemma_client import Result
from medgemma_client.models import (
    Consistency,
    ExplanationRequest,
    ImageGrid,
    ModelRecord,
    Stage,
    State,
    Status,
    TargetRecord,
    Token,
)

JOB = "0123456789abcdef0123456789abcdef"


class Fault(BaseModel):
    """Why a job failed."""

    code: str
    message: str


class Links(BaseModel):
    """Where the rest of a job is found."""

    self: str
    question: str
    events: str
    result: str
    report: str


class JobStatus(BaseModel):
    """Where a job stands."""

    id: str = Field(pattern="^[0-9a-f]{32}$", examples=[JOB])
    state: State
    stage: Stage | None = None
    """Of a job that runs."""
    progress: float = Field(ge=0, le=1)
    """Of its stage."""
    attempt: int
    ahead: int | None = None
    """Jobs that go first, of one that waits, as far as it is known."""
    error: Fault | None = None
    links: Links

    @classmethod
    def of(cls, status: Status) -> Self:
        here = f"/v1/explanations/{status.job_id}"
        error = status.error
        return cls(
            id=status.job_id,
            state=status.state,
            stage=status.stage,
            progress=status.progress,
            attempt=status.attempt,
            ahead=status.ahead,
            error=None if error is None else Fault(code=error.code, message=error.message),
            links=Links(
                self=here,
                question=f"{here}/question",
                events=f"{here}/events",
                result=f"{here}/result",
                report=f"{here}/report",
            ),
        )


class Accepted(JobStatus):
    """A question that was taken: where its job stands."""

    notes: tuple[str, ...] = Field(
        examples=[["Shown: CT, 85 slices, axial.", "Left out: 1 file: no DICOM."]]
    )
    """Of a study: what of it the model is shown, and what was left out. They name no file, UID or
    person. Result and report have those of whoever asked first."""


class JobQuestion(BaseModel):
    """What was asked."""

    id: str = Field(examples=[JOB])
    prompt: list[str | int] = Field(examples=[[0, "Is there a pneumothorax?"]])
    """Texts, and the images by their numbers from 0, in the order in which the model is shown
    them. Of a study most are ours, and one is the question."""

    @classmethod
    def of(cls, request: ExplanationRequest) -> Self:
        said = chain.from_iterable(one.content for one in request.messages if one.role == "user")
        prompt = [part.text if part.type == "text" else part.image for part in said]
        return cls(id=request.job_id, prompt=prompt)


class ArtifactLink(BaseModel):
    """A file of a result, and where it is to be had."""

    url: str
    content_type: str
    size: int
    sha256: str


class JobResult(BaseModel):
    """What a job came to: the model's answer, and what of images and words each target rests on."""

    id: str = Field(examples=[JOB])
    answer: str
    answer_given: bool
    thinking: str | None
    notes: tuple[str, ...]
    """Of a study: what of it the model was shown, and what left out, when it was first asked."""
    targets: tuple[TargetRecord, ...]
    images: tuple[ImageGrid, ...]
    tokens: tuple[Token, ...]
    consistency: Consistency | None
    model: ModelRecord | None
    seconds: dict[str, float]
    peak_memory_bytes: int | None
    attempt: int
    submitted_at: datetime
    finished_at: datetime
    artifacts: dict[str, ArtifactLink]

    @classmethod
    def of(cls, result: Result, urls: dict[str, str]) -> Self:
        """``urls``: of each artifact, by its name."""
        record = result.record
        return cls(
            id=record.job_id,
            answer=result.answer,
            answer_given=record.answer_given,
            thinking=record.thinking,
            notes=result.notes,
            targets=record.targets,
            images=record.images,
            tokens=record.tokens,
            consistency=record.consistency,
            model=record.model,
            seconds=record.seconds,
            peak_memory_bytes=record.peak_memory_bytes,
            attempt=record.attempt,
            submitted_at=record.submitted_at,
            finished_at=record.finished_at,
            artifacts={
                name: ArtifactLink(
                    url=urls[name],
                    content_type=artifact.content_type,
                    size=artifact.size,
                    sha256=artifact.sha256,
                )
                for name, artifact in record.artifacts.items()
            },
        )


class Limits(BaseModel):
    """How much a question may hold. What is larger is refused, so it need not be sent."""

    max_upload_bytes: int = Field(examples=[1_000_000_000])
    """Of a multipart body."""
    max_json_bytes: int = Field(examples=[64_000_000])
    """Of a JSON body."""
    max_file_bytes: int = Field(examples=[1_000_000_000])
    """Of one image's file."""
    max_images: int = Field(examples=[125])


class Models(BaseModel):
    """The models that workers published, and what this gateway takes."""

    models: list[str] = Field(examples=[["google/medgemma-1.5-4b-it"]])
    limits: Limits


class Health(BaseModel):
    """Whether the gateway lives."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """Whether the parts that it needs answer."""

    status: Literal["ready", "not ready"]
    redis: bool
    store: bool
