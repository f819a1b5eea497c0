"""Asking a gateway, as a program does."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Sequence
from typing import Any

import httpx
from PIL import Image

from tests.parts import picture

ENDED = ("succeeded", "failed", "cancelled")


def png(image: Image.Image | None = None) -> bytes:
    buffer = io.BytesIO()
    (picture() if image is None else image).save(buffer, "PNG")
    return buffer.getvalue()


def ask(
    api: httpx.Client,
    header: dict[str, str],
    prompt: str | list[str | int],
    *,
    key: str | None = None,
    images: Sequence[bytes] | None = None,
    **said: Any,
) -> httpx.Response:
    """A question about images, or about one picture, as a form."""
    headers = header if key is None else {**header, "Idempotency-Key": key}
    return api.post(
        "/v1/explanations",
        headers=headers,
        data={"request": json.dumps({"prompt": prompt, **said})},
        files=[("images", ("x.png", image, "image/png")) for image in images or [png()]],
    )


def ended(api: httpx.Client, header: dict[str, str], where: str, seconds: float = 60) -> Any:
    """The status of a job once it has ended."""
    deadline = time.monotonic() + seconds
    while True:
        answer = api.get(where, headers=header)
        assert answer.status_code == 200, answer.text
        if (status := answer.json())["state"] in ENDED:
            return status
        assert time.monotonic() < deadline, status
        time.sleep(0.05)
