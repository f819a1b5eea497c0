"""A question as the API takes it."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
)

from medgemma_client.errors import InvalidRequest
from medgemma_web.problems import faults

MOST_COMMAS = 50_000
"""In the JSON of a question, texts included. It has no more values than commas, give or take its
depth, and each that is read needs 30 times its own bytes. Base64 has none."""

Words = StrictStr | Annotated[list[StrictStr], Field(fail_fast=True)] | None
Side = Literal["patient-right", "patient-left", "unknown"]
Top = Literal["patient-head", "patient-feet", "patient-front", "patient-back", "unknown"]

Q = TypeVar("Q", bound="Question")

EXAMPLE: dict[str, JsonValue] = {"prompt": "Is there a pneumothorax?", "keyword": "pneumothorax"}


class Question(BaseModel):
    """The part ``request`` of a multipart body: the names of ``Client.submit``."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
        json_schema_extra={"examples": [EXAMPLE]},
    )

    prompt: StrictStr | Annotated[list[StrictStr | StrictInt], Field(fail_fast=True)]
    """A text, read after the images; or texts and numbers of images from 0, in order."""
    keyword: Words = None
    """A word or several of the answer, each explained."""
    prompt_words: Words = None
    """A word or several of the prompt."""
    every_token: StrictBool = False
    """Explain each token of the answer."""
    characters: Annotated[list[StrictInt | None], Field(min_length=2, max_length=2)] | None = None
    """Characters of the answer: the first, and one past the last (null: to its end), from 0."""
    token: StrictInt | None = None
    """A token, by its position in the whole sequence."""
    occurrence: StrictInt = 1
    """Which one of a keyword, from 1."""
    whole_word: StrictBool = True
    answer: StrictStr | None = None
    """Explain this answer, as if the model had said it."""
    system: StrictStr | None = None
    method: StrictStr = "chefer"
    resolution: Literal["token", "patch"] = "token"
    areas: StrictBool = False
    """Measure how true each map is."""
    max_new_tokens: StrictInt | None = None
    pad_to_square: StrictBool = True
    left_of_image: Side | None = None
    top_of_image: Top | None = None
    model: StrictStr | None = None
    """One of ``/v1/models``; the gateway's own where it is left out."""
    expires: float | None = Field(default=None, gt=0)
    """Seconds from now after which nobody needs the answer."""
    force: StrictBool = False
    """Ask anew although the same was asked before."""

    def options(self) -> dict[str, Any]:
        """For ``Client.submit``."""
        return self.model_dump(exclude={"images"})


class QuestionWithImages(Question):
    """The body where it is JSON."""

    images: Annotated[list[StrictStr], Field(fail_fast=True)] = Field(min_length=1, max_length=1000)
    """Files (PNG, JPEG, TIFF, DICOM), each in base64."""

    def files(self) -> list[bytes]:
        """Raises InvalidRequest."""
        found = []
        for place, image in enumerate(self.images):
            try:
                found.append(base64.b64decode(image, validate=True))
            except (binascii.Error, ValueError):
                which = f"Image {place + 1} of {len(self.images)}"
                raise InvalidRequest(f"{which} is not base64.", image=place) from None
        return found


def read_question(text: bytes | str) -> Question:
    """Raises InvalidRequest, which quotes nothing of it."""
    return _read(Question, text)


def read_question_with_images(text: bytes | str) -> QuestionWithImages:
    """Raises InvalidRequest, which quotes nothing of it."""
    return _read(QuestionWithImages, text)


def _read(kind: type[Q], text: bytes | str) -> Q:
    commas = text.count(",") if isinstance(text, str) else text.count(b",")
    if commas > MOST_COMMAS:
        raise InvalidRequest(
            f"The question has more than {MOST_COMMAS:,} commas. Ask a shorter one."
        )
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False, include_context=False)
        raise InvalidRequest(f"The question cannot be used: {faults(found)}") from None
