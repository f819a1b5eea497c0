"""From a record to its page."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import FunctionLoader, Template
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from medgemma_client.report.figures import embedded_edge, plain_figure
from medgemma_client.report.numbers import is_rounded, page_data
from medgemma_client.report.palettes import palettes
from medgemma_client.report.targets import explained as page_view
from medgemma_client.report.text import careful
from medgemma_tasks.boxes import AnswerBoxes, read_boxes
from medgemma_tasks.errors import InvalidRequest
from medgemma_tasks.models import ExplanationRecord, ExplanationRequest, Message, State, TextPart
from medgemma_tasks.pictures import NOTICE

Rows = list[tuple[str, str]]


def render_report(
    record: ExplanationRecord,
    request: ExplanationRequest,
    images: Sequence[Image.Image],
    maps: Sequence[NDArray[np.float32]],
    fine: Sequence[NDArray[np.float32] | None] | None = None,
) -> str:
    """One HTML page that works offline: all maps to choose from, and without JavaScript the first.

    images: the originals in the order of the request, 8 bits a channel. maps: for each target of
    the record float32 (n, rows, columns), unscaled, as `ExplanationResult.image_scores`. fine: the
    same over patches, as `patch_scores`. A failed or cancelled record needs no maps; images, where
    given, are shown plain.

    Prompts, answers and errors are untrusted: all text is escaped, and the page's own policy
    forbids it to load anything, and to run any script but its own (by hash).

    Raises `InvalidRequest` where record, request, images and maps do not belong together.
    """
    if record.job_id != request.job_id:
        raise InvalidRequest("The record and the request are of two different jobs.")
    explained = record.state is State.SUCCEEDED
    count = len(record.images) if explained else len(images)
    if len(images) != count or count > len(request.images):
        raise InvalidRequest(f"The record has {count} images; {len(images)} were given.")
    context: dict[str, Any] = {
        "record": record,
        "notice": NOTICE,
        "messages": [_message(message) for message in request.messages],
        "notes": request.notes,
        "details": _details(record),
        "succeeded": explained,
        "failure": None,
        "figures": [],
        "shown": None,
        "answer": record.answer or "",
        "unplaced": 0,
        "data": None,
        "rounded": False,
        "palettes": palettes(),
    }
    if explained:
        boxes = read_boxes(record.answer or "")
        finer = fine or [None] * len(maps)
        shown = page_view(record, images, maps, finer, boxes)
        context |= {
            "shown": shown,
            "figures": shown.figures if shown else [],
            "unplaced": len(boxes.found) if count > 1 else 0,
        }
        if shown and shown.figures:
            on_image = boxes if shown.boxes else AnswerBoxes((), 0)
            context["data"] = page_data(record, maps, finer, on_image)
            context["rounded"] = is_rounded(record, maps, finer)
    else:
        refs = request.images[: len(images)]
        answer = record.answer or (record.error.details.get("answer") if record.error else None)
        edge = embedded_edge(count)
        context |= {
            "figures": [
                plain_figure(number, image, ref, edge)
                for number, (image, ref) in enumerate(zip(images, refs, strict=True), start=1)
            ],
            "answer": answer if isinstance(answer, str) else "",
            "failure": _failure(record),
        }
    return _template().render(
        context,
        # Our own files, and a hash: nothing here comes from outside.
        css=Markup(_joined("styles", "css")),  # noqa: S704
        script=Markup(_script()),  # noqa: S704
        script_hash=script_hash(),
    )


def script_hash() -> str:
    """The SHA-256 of the script of every page, as a Content-Security-Policy names it: a page that
    shows a report in a frame (srcdoc, blob) hands its own policy down, and has to allow it."""
    digest = hashlib.sha256(_script().encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


@lru_cache(maxsize=1)
def _script() -> str:
    return f'(() => {{\n"use strict";\n{_joined("scripts", "js")}}})();\n'


def _joined(folder: str, ending: str) -> str:
    """The files of a folder in the order of their names, which begin with a number."""
    found = files("medgemma_client.report").joinpath(folder).iterdir()
    named = sorted((one for one in found if one.name.endswith(f".{ending}")), key=lambda f: f.name)
    return "\n".join(one.read_text(encoding="utf-8") for one in named)


@lru_cache(maxsize=1)
def _template() -> Template:
    return careful(FunctionLoader(_load)).get_template("report.html.j2")


def _load(name: str) -> str:
    return files("medgemma_client.report").joinpath("templates", name).read_text(encoding="utf-8")


def _message(message: Message) -> dict[str, Any]:
    parts = [
        {"text": part.text} if isinstance(part, TextPart) else {"image": part.image + 1}
        for part in message.content
    ]
    label = {"user": "Question", "system": "System text", "assistant": "Earlier answer"}
    return {"label": label[message.role], "parts": parts}


def _failure(record: ExplanationRecord) -> dict[str, str]:
    cancelled = record.state is State.CANCELLED
    sentence = "It was cancelled." if cancelled else "It failed, and left no word of why."
    if record.error is not None:
        sentence = record.error.message
    return {
        "title": "Cancelled: nothing to show" if cancelled else "Failed: nothing was explained",
        "sentence": sentence,
        "code": record.error.code if record.error is not None else "",
    }


def _details(record: ExplanationRecord) -> Rows:
    rows: Rows = [("Job", record.job_id), ("State", str(record.state))]
    if record.model is not None:
        model = record.model
        rows += [
            ("Model", model.name),
            ("Revision", model.revision),
            ("Method", f"{model.method}, version {model.method_version}"),
            ("Precision", model.dtype),
            ("Device", model.device),
            ("Versions", ", ".join(f"{name} {v}" for name, v in sorted(model.versions.items()))),
        ]
    if record.seconds:
        spent = ", ".join(f"{stage} {value:.2f}" for stage, value in record.seconds.items())
        rows.append(("Seconds", spent))
    if record.peak_memory_bytes is not None:
        rows.append(("Peak memory", f"{record.peak_memory_bytes / 2**30:.2f} GiB"))
    rows += [
        ("Attempt", str(record.attempt)),
        ("Submitted", _time(record.submitted_at)),
        ("Finished", _time(record.finished_at)),
    ]
    return rows


def _time(moment: datetime) -> str:
    if moment.tzinfo is None:
        return moment.strftime("%Y-%m-%d %H:%M:%S")
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
