"""Requests, results and what they are made of, as strict models: unknown fields are refused.

The JSON Schemas in ``schema/`` are made from these (``python -m medgemma_tasks.schema``).
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

SCHEMA_VERSION = 1
"""Version of request.json and result.json. Workers read this one and the one before it."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
JobId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Tenant = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$")]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class Strict(BaseModel):
    """Frozen, and unknown fields are an error: a typo must not pass as a default."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class State(StrEnum):
    """Where a job stands. The last three are terminal."""

    SUBMITTED = "submitted"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        return self in (State.SUCCEEDED, State.FAILED, State.CANCELLED)


class Stage(StrEnum):
    """What a running job is doing."""

    LOADING = "loading"
    GENERATING = "generating"
    EXPLAINING = "explaining"
    STORING = "storing"


# --- the request -------------------------------------------------------------------------------


class ImageAttributes(Strict):
    """The technical attributes that travel with an image. None of them identifies anybody."""

    source: Literal["png", "jpeg", "tiff", "other", "array", "dicom"] = "other"
    modality: str | None = Field(default=None, pattern=r"^[A-Z]{2,16}$")
    photometric: str | None = Field(default=None, pattern=r"^[A-Z0-9_ ]{1,32}$")
    bits_stored: int | None = Field(default=None, ge=1, le=64)
    window: tuple[float, float] | None = None
    """Centre and width that were applied, in the units of the modality."""
    spacing_mm: tuple[float, float] | None = None
    """Row and column spacing in millimetres."""
    left_of_image: Literal["patient-right", "patient-left", "unknown"] = "unknown"
    """Which side of the patient the left edge of the image shows."""
    top_of_image: Literal[
        "patient-head", "patient-feet", "patient-front", "patient-back", "unknown"
    ] = "unknown"
    """Which end of the patient the top edge of the image shows."""
    frame: int | None = Field(default=None, ge=0)
    """Which frame of a multi-frame source, from 0."""
    frames: int | None = Field(default=None, ge=1)
    """How many frames the source has."""


class ImageRef(Strict):
    """An uploaded image. ``name`` is the SHA-256 of mode, size and decoded pixels."""

    name: Sha256
    width: int = Field(ge=1)
    height: int = Field(ge=1)
    mode: Literal["L", "RGB"]
    attributes: ImageAttributes = ImageAttributes()


class TextPart(Strict):
    type: Literal["text"] = "text"
    text: str = Field(max_length=100_000)


class ImagePart(Strict):
    """The place of one image in a message, by its index in ``ExplanationRequest.images``."""

    type: Literal["image"] = "image"
    image: int = Field(ge=0)


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class Message(Strict):
    role: Literal["system", "user", "assistant"]
    content: tuple[Part, ...] = Field(min_length=1)


class AnswerTarget(Strict):
    """The whole answer, without its end markers and without a thinking block."""

    kind: Literal["answer"] = "answer"


class KeywordTarget(Strict):
    """A word or phrase of the answer: case-insensitive, and a whole word unless told otherwise."""

    kind: Literal["keyword"] = "keyword"
    keyword: str = Field(min_length=1, max_length=1000)
    occurrence: int = Field(default=1, ge=1)
    """Which occurrence, counted from 1."""
    whole_word: bool = True


class TokenTarget(Strict):
    """One token, by its position in the whole sequence (prompt and answer), counted from 0."""

    kind: Literal["token"] = "token"
    position: int


Target = Annotated[AnswerTarget | KeywordTarget | TokenTarget, Field(discriminator="kind")]


class Options(Strict):
    """What may vary in how a question is answered and explained."""

    max_new_tokens: int = Field(default=300, ge=1, le=4096)
    pad_to_square: bool = True
    """Pad each image with black to a centred square, since the processor ignores the aspect."""


class ExplanationRequest(Strict):
    """``request.json``: one question about images, and what to explain of its answer."""

    schema_version: Literal[1] = 1
    job_id: JobId
    tenant: Tenant
    model: ModelName
    revision: str = Field(min_length=1, max_length=200)
    method_version: str = Field(min_length=1, max_length=64)
    images: tuple[ImageRef, ...] = Field(min_length=1)
    messages: tuple[Message, ...] = Field(min_length=1)
    target: Target = AnswerTarget()
    options: Options = Options()
    nonce: str | None = Field(default=None, pattern=r"^[0-9a-f]{1,64}$")
    """Set by ``force=True``, to make the same question another job."""
    submitted_at: datetime


# --- the result --------------------------------------------------------------------------------


class ErrorRecord(Strict):
    code: str
    message: str
    details: dict[str, Any] = {}


class Artifact(Strict):
    """One object that a result names. ``key`` is relative to the job's own prefix."""

    key: str = Field(pattern=r"^[0-9]+-[0-9a-f]+/[a-z0-9.-]+$")
    sha256: Sha256
    size: int = Field(ge=0)
    content_type: str


class Span(Strict):
    """Where a target was found. Positions count tokens of the whole sequence from 0."""

    kind: Literal["answer", "keyword", "token"]
    text: str
    token_positions: tuple[int, ...] = Field(min_length=1)
    tokens: tuple[str, ...]
    char_start: int | None = None
    """Offset in the answer; None where the target lies outside of it (a word of the prompt)."""
    char_end: int | None = None
    occurrence: int = 1
    occurrences: int = 1


class TokenScore(Strict):
    """A text token and its relevancy, unscaled.

    Special tokens are kept, and left out of display scales, as are the target's own positions p-1.
    """

    position: int
    text: str
    role: Literal["prompt", "answer", "special"]
    score: float


class ImageMap(Strict):
    """The relevancy of one image: its grid, and where in the picture the grid lies."""

    image: ImageRef
    rows: int
    columns: int
    square: tuple[float, float, float, float]
    """Left, top, right, bottom of the area the grid covers, in pixels of the image (it reaches
    beyond the image where that was padded to a square)."""
    share: Fraction
    """Part of all relevancy (images, prompt, answer) that lies on this image."""
    low: float
    high: float
    """The display range, the same for all images of a job: low is drawn as 0, high as 1."""
    peak_cell: tuple[int, int]
    """Row and column of the largest score."""
    heatmap: str
    overlay: str
    """Names of the pictures in ``ExplanationRecord.artifacts``."""


class Shares(Strict):
    """How relevancy is shared out, the target's own position aside. They add up to 1."""

    images: Fraction
    prompt: Fraction
    answer: Fraction
    special: Fraction


class Consistency(Strict):
    """Re-scoring the greedy answer must give each of its tokens as the most likely one."""

    checked: int
    misses: int


class ModelRecord(Strict):
    name: ModelName
    revision: str
    method: str
    method_version: str
    dtype: str
    device: str
    versions: dict[str, str]


class ExplanationRecord(Strict):
    """``result.json``: THE terminal mark of a job. Written last; it names its artifacts."""

    schema_version: Literal[1] = 1
    job_id: JobId
    tenant: Tenant
    state: Literal[State.SUCCEEDED, State.FAILED, State.CANCELLED]
    attempt: int = Field(ge=0)
    error: ErrorRecord | None = None
    answer: str | None = None
    thinking: str | None = None
    targets: tuple[Span, ...] = ()
    images: tuple[ImageMap, ...] = ()
    tokens: tuple[TokenScore, ...] = ()
    shares: Shares | None = None
    own_relevancy: float | None = None
    """What the target's own position holds, the identity subtracted."""
    consistency: Consistency | None = None
    model: ModelRecord | None = None
    seconds: dict[str, float] = {}
    """Seconds by stage: loading, generating, explaining, rendering, storing, waiting."""
    peak_memory_bytes: int | None = None
    artifacts: dict[str, Artifact] = {}
    submitted_at: datetime
    finished_at: datetime


# --- what workers and Redis say ----------------------------------------------------------------


class ServedModel(Strict):
    """``models/<name>.json``: what the workers of a model hold. Clients put it into job ids."""

    schema_version: Literal[1] = 1
    name: ModelName
    revision: str
    method: str
    method_version: str
    max_context_tokens: int
    tokens_per_image: int
    max_new_tokens: int


class Live(Strict):
    """The live state of a job in Redis. It may vanish at any time; the store is the truth."""

    stage: Stage
    progress: Fraction
    attempt: int


class Status(Strict):
    """What ``Job.status`` answers."""

    job_id: JobId
    state: State
    stage: Stage | None = None
    progress: Fraction = 0.0
    attempt: int = 0
    error: ErrorRecord | None = None
