"""Records to make reports of, and what a browser would make of a page."""

from __future__ import annotations

import base64
import io
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import numpy as np
from PIL import Image

from medgemma_tasks.geometry import grid_square
from medgemma_tasks.models import (
    Consistency,
    ExplanationRecord,
    ExplanationRequest,
    ImageAttributes,
    ImageGrid,
    ImageMap,
    ImagePart,
    ImageRef,
    Message,
    ModelRecord,
    Shares,
    Span,
    State,
    TargetRecord,
    TextPart,
    Token,
)
from medgemma_tasks.pictures import peak_cell

JOB = "0123456789abcdef" * 2
NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
ANSWER = "There is a nodule in the right upper zone."
NODULE = Span(
    kind="keyword",
    text="nodule",
    token_positions=(303,),
    tokens=(" nodule",),
    char_start=11,
    char_end=17,
)
VOID = {"meta", "img", "input", "path"}


class Page(HTMLParser):
    """What a browser would make of the page: elements, their attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self.data = ""
        """The numbers of the page: JSON, which nothing runs."""
        self._inside: list[str] = []
        self._within: list[dict[str, str | None]] = []
        self.marked = ""
        """What can be chosen of the answer."""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._inside.append(tag)
            self._within.append(dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        assert tag in VOID or self._inside.pop() == tag
        if tag not in VOID:
            self._within.pop()

    def handle_data(self, data: str) -> None:
        if "script" in self._inside:
            if self._within[-1].get("type") == "application/json":
                self.data += data
            else:
                self.scripts.append(data)
        elif "style" not in self._inside:
            self.text += data
            answer = any(one.get("id") == "words" for one in self._within)
            if answer and "data-targets" in self._within[-1]:
                self.marked += data

    def all(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        return [
            attributes
            for name, attributes in self.elements
            if name == tag
            and all(value in (attributes.get(key) or "").split() for key, value in wanted.items())
        ]


def picture(uri: str | None) -> Image.Image:
    assert uri is not None
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))


def make(
    *,
    sizes: tuple[tuple[int, int], ...] = ((200, 300),),
    side: str = "patient-right",
    prompt: str = "Is there a nodule?",
    request: dict[str, Any] | None = None,
    maps: np.ndarray | None = None,
    spans: tuple[Span, ...] = (NODULE,),
    target: dict[str, Any] | None = None,
    **changes: Any,
) -> tuple[ExplanationRecord, ExplanationRequest, list[Image.Image], list[np.ndarray]]:
    """A record of targets that all have the same maps; ``target`` changes fields of theirs,
    ``request`` of the request."""
    refs = tuple(
        ImageRef(
            name="ab" * 32,
            width=width,
            height=height,
            mode="L",
            attributes=ImageAttributes(left_of_image=side),  # type: ignore[arg-type]
        )
        for width, height in sizes
    )
    if maps is None:
        maps = np.random.default_rng(0).random((len(sizes), 16, 16)).astype(np.float32) * 0.02
        maps[:, 8, 7] = 0.0748
    low, high = float(maps.min()), float(maps.max())
    asked = ExplanationRequest(
        job_id=JOB,
        tenant="local",
        model="google/medgemma-1.5-4b-it",
        revision="r1",
        method_version="1",
        images=refs,
        messages=(Message(role="user", content=(ImagePart(image=0), TextPart(text=prompt))),),
        submitted_at=NOW,
    ).model_copy(update=request or {})
    values: dict[str, Any] = {
        "job_id": JOB,
        "tenant": "local",
        "state": State.SUCCEEDED,
        "attempt": 1,
        "answer": ANSWER,
        "targets": tuple(
            TargetRecord(
                **{
                    "span": span,
                    "scores": (9.0, 0.25, 0.75, 0.5, 0.25),
                    "shares": Shares(images=0.4, prompt=0.3, answer=0.2, special=0.1),
                    "own_relevancy": 1.5,
                    "low": low,
                    "high": high,
                    "maps": tuple(
                        ImageMap(share=0.4, peak_cell=peak_cell(scores)) for scores in maps
                    ),
                }
                | (target or {})
            )
            for span in spans
        ),
        "images": tuple(
            ImageGrid(
                image=ref,
                rows=16,
                columns=16,
                square=grid_square(ref.width, ref.height, pad=True),
                heatmap="heatmap-0.png",
                overlay="overlay-0.png",
            )
            for ref in refs
        ),
        "tokens": (
            Token(position=0, text="<bos>", role="special"),
            Token(position=290, text="Is", role="prompt"),
            Token(position=291, text="\u2581there", role="prompt"),
            Token(position=302, text=" a", role="answer"),
            Token(position=303, text=" nodule", role="answer"),
        ),
        "consistency": Consistency(checked=9, misses=0),
        "model": ModelRecord(
            name="google/medgemma-1.5-4b-it",
            revision="e9792da5",
            method="relevancy",
            method_version="7",
            dtype="bfloat16",
            device="NVIDIA H200",
            versions={"torch": "2.11.0"},
        ),
        "seconds": {"generating": 4.21},
        "submitted_at": NOW,
        "finished_at": NOW,
    }
    images = [Image.new("L", size, 90) for size in sizes]
    return ExplanationRecord(**(values | changes)), asked, images, [maps] * len(spans)


def failed(**changes: Any) -> ExplanationRecord:
    return ExplanationRecord(
        job_id=JOB,
        tenant="local",
        attempt=2,
        submitted_at=NOW,
        finished_at=NOW,
        **({"state": State.FAILED} | changes),
    )
