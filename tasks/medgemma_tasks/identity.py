"""Names that follow from content: of an image, and of a job."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

    from medgemma_tasks.models import ImageRef, Message, Options, ServedModel, Target


def image_name(image: Image) -> str:
    """SHA-256 (hex) of mode, size and decoded pixels.

    Not of the PNG's bytes: those differ between versions of zlib.
    """
    digest = hashlib.sha256(f"{image.mode} {image.width}x{image.height}\n".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def job_id(
    *,
    tenant: str,
    images: tuple[ImageRef, ...],
    messages: tuple[Message, ...],
    targets: tuple[Target, ...],
    options: Options,
    model: ServedModel,
    given_answer: str | None = None,
    nonce: str | None = None,
) -> str:
    """The id of a question: the same question is the same job. 32 hex digits (128 bits).

    The images' technical attributes are part of the question, because orientation enters the
    result: the same pixels with and without a known side are two questions.
    """
    question: dict[str, Any] = {
        "tenant": tenant,
        "images": [_described(image) for image in images],
        "messages": [message.model_dump(mode="json") for message in messages],
        "targets": [target.model_dump(mode="json") for target in targets],
        "given_answer": given_answer,
        "options": options.model_dump(mode="json"),
        "model": [model.name, model.revision, model.method, model.method_version],
        "nonce": nonce,
    }
    canonical = json.dumps(question, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def _described(image: ImageRef) -> dict[str, Any]:
    said = image.model_dump(mode="json")
    # An image without a place is the same question as before there were places.
    if image.attributes.plane is None:
        del said["attributes"]["plane"]
    return said
