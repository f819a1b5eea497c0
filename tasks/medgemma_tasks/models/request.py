"""``request.json``: one question about images, and what to explain of its answer."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from medgemma_tasks.models.base import JobId, ModelName, Sha256, Strict, Tenant
from medgemma_tasks.models.targets import AnswerTarget, Target

Vector = tuple[float, float, float]
"""x, y, z in the patient: to the left, the back and the head (LPS, as DICOM has them)."""


class Plane(Strict):
    """Where an image lies in the patient. The centre of the pixel in column i and row j is at

        origin_mm + row * i * spacing_mm[1] + column * j * spacing_mm[0]

    with the attributes' ``spacing_mm`` (PS3.3 C.7.6.2.1.1).
    """

    origin_mm: Vector
    """The centre of the first pixel, top left."""
    row: Vector
    """Unit vector along a row, to where columns count up."""
    column: Vector
    """Unit vector along a column, to where rows count up."""
    thickness_mm: float | None = Field(default=None, gt=0)
    step_mm: float | None = Field(default=None, gt=0)
    """From one slice of the acquisition to the next, along the normal; not of those shown."""


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
    plane: Plane | None = None
    """Where it lies in the patient; None where that is unknown, as of every radiograph."""


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


class Options(Strict):
    """What may vary in how a question is answered and explained."""

    max_new_tokens: int = Field(default=300, ge=1, le=4096)
    pad_to_square: bool = True
    """Pad each image with black to a centred square, since the processor ignores the aspect."""
    method: str = Field(default="chefer", pattern=r"^[a-z][a-z0-9-]{0,39}$")
    """What computes the map, by its registered name."""
    resolution: Literal["token", "patch"] = "token"
    """``patch`` adds maps on the vision tower's own, finer grid."""
    areas: bool = False
    """Measure how true each map is: its deletion and insertion area, for some 18 forward passes."""


class ExplanationRequest(Strict):
    """``request.json``: one question about images, and what to explain of its answer."""

    schema_version: Literal[2] = 2
    job_id: JobId
    tenant: Tenant
    model: ModelName
    revision: str = Field(min_length=1, max_length=200)
    method_version: str = Field(min_length=1, max_length=64)
    images: tuple[ImageRef, ...] = Field(min_length=1)
    messages: tuple[Message, ...] = Field(min_length=1)
    targets: tuple[Target, ...] = Field(default=(AnswerTarget(),), min_length=1, max_length=64)
    given_answer: str | None = Field(default=None, min_length=1, max_length=100_000)
    """Explain this answer, as if the model had said it, and generate none."""
    options: Options = Options()
    nonce: str | None = Field(default=None, pattern=r"^[0-9a-f]{1,64}$")
    """Set by ``force=True``, to make the same question another job."""
    notes: tuple[str, ...] = ()
    """What of a study is shown and what was left out, as it was when this was first asked, in
    sentences that name no file, UID or person. No part of the id: nothing is computed from them."""
    batch: bool = False
    """Whether it waits on the batch queue, so that it is put back there. No part of the id."""
    submitted_at: datetime
    expires_at: AwareDatetime | None = None
    """The deadline: a job that has not finished by then is not started, or ends at its next step.
    No part of what makes the question, so no part of the job's id."""
