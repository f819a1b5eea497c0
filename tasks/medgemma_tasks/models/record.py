"""``result.json``: what a job came to, its terminal mark."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from medgemma_tasks.models.base import Fraction, JobId, ModelName, Sha256, State, Strict, Tenant
from medgemma_tasks.models.request import ImageRef
from medgemma_tasks.models.zones import Zones


class ErrorRecord(Strict):
    code: str
    message: str
    details: dict[str, Any] = Field(default_factory=dict)


class Artifact(Strict):
    """One object that a result names. ``key`` is relative to the job's own prefix."""

    key: str = Field(pattern=r"^[0-9]+-[0-9a-f]+/[a-z0-9.-]+$")
    sha256: Sha256
    size: int = Field(ge=0)
    content_type: str


class Span(Strict):
    """Where a target was found. Positions count tokens of the whole sequence from 0.

    Every token of an answer gives one span of kind "token" each.
    """

    kind: Literal["answer", "keyword", "prompt", "characters", "token"]
    text: str
    token_positions: tuple[int, ...] = Field(min_length=1)
    tokens: tuple[str, ...]
    char_start: int | None = None
    """Offset in the answer; None where the target lies outside of it (a word of the prompt)."""
    char_end: int | None = None
    occurrence: int = 1
    occurrences: int = 1


class Token(Strict):
    """A text token of prompt or answer. ``special``: turn markers, <bos> and their kin."""

    position: int = Field(ge=0)
    text: str
    role: Literal["prompt", "answer", "special"]


class FineGrid(Strict):
    """The vision tower's own patches, on the same area as the grid of image tokens."""

    rows: int = Field(ge=1)
    columns: int = Field(ge=1)
    heatmap: str
    overlay: str


class ImageGrid(Strict):
    """An image, and where on it the grid of relevancy lies."""

    image: ImageRef
    rows: int = Field(ge=1)
    columns: int = Field(ge=1)
    square: tuple[float, float, float, float]
    """Left, top, right, bottom of the area the grid covers, in pixels of the image (it reaches
    beyond the image where that was padded to a square)."""
    heatmap: str
    overlay: str
    """Names of the pictures of the first target in ``ExplanationRecord.artifacts``."""
    fine: FineGrid | None = None
    """Where ``resolution="patch"`` was asked for."""


class FineRange(Strict):
    """The display range of the maps over patches, the same for all images, and their peaks."""

    low: float
    high: float
    peaks: tuple[tuple[int, int], ...]
    """For each image row and column of the largest score."""


class ImageMap(Strict):
    """What one target's map of one image comes to."""

    share: Fraction
    """Part of all relevancy (images, prompt, answer) that lies on this image."""
    peak_cell: tuple[int, int]
    """Row and column of the largest score."""
    zones: Zones | None = None
    """Shares by side and third; None where this image holds no relevancy."""


class Shares(Strict):
    """How relevancy is shared out, the target's own position aside. They add up to 1."""

    images: Fraction
    prompt: Fraction
    answer: Fraction
    special: Fraction


class Areas(Strict):
    """How the target's probability falls and comes back as cells go and come in a map's order.

    See docs/truth.md. The areas are None where covering the images changes the target by no more
    than 1 nat: then no order of their cells means anything.
    """

    deletion: float | None
    """Low is good."""
    insertion: float | None
    """High is good."""
    log_p: float
    log_p_covered: float
    """Natural log of the target's probability, with the images whole and covered."""


class TargetRecord(Strict):
    """One target, explained."""

    span: Span
    scores: tuple[float, ...]
    """Relevancy, unscaled, of the first of ``ExplanationRecord.tokens``: those that the target
    could see. Special tokens are kept, and left out of display scales, as are the target's own
    positions p-1."""
    shares: Shares
    own_relevancy: float
    """What the target's own positions hold, the identity subtracted."""
    low: float
    high: float
    """The display range, the same for all images: low is drawn as 0, high as 1."""
    maps: tuple[ImageMap, ...]
    """One for each of ``ExplanationRecord.images``."""
    fine: FineRange | None = None
    areas: Areas | None = None


class Consistency(Strict):
    """Scoring the answer again in the explaining pass: how many of its tokens were not the most
    likely ones there. Of a greedy answer none must be; of a given one each is a token that the
    model itself would not have said."""

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

    schema_version: Literal[2] = 2
    job_id: JobId
    tenant: Tenant
    state: Literal[State.SUCCEEDED, State.FAILED, State.CANCELLED]
    attempt: int = Field(ge=0)
    error: ErrorRecord | None = None
    answer: str | None = None
    answer_given: bool = False
    """Whether the answer came with the request; else the model gave it."""
    thinking: str | None = None
    targets: tuple[TargetRecord, ...] = ()
    images: tuple[ImageGrid, ...] = ()
    tokens: tuple[Token, ...] = ()
    """Text tokens in the order of the sequence."""
    consistency: Consistency | None = None
    model: ModelRecord | None = None
    seconds: dict[str, float] = Field(default_factory=dict)
    """Seconds by stage: loading, generating, explaining, rendering, storing, waiting."""
    peak_memory_bytes: int | None = None
    artifacts: dict[str, Artifact] = Field(default_factory=dict)
    submitted_at: datetime
    finished_at: datetime
