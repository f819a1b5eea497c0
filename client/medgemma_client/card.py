"""What a notebook shows of a result, a job or a study: a small card, whole in itself.

A card is shown to the one who asked for it, and may quote an answer; ``repr``, which ends up in
logs, never does. It has no background of its own, so that it is readable on a light page and on a
dark one, and says the same where a host of notebooks strips its style.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from medgemma_client.report.text import careful
from medgemma_tasks.errors import MedGemmaError
from medgemma_tasks.models import ExplanationRecord, Span, Status

if TYPE_CHECKING:
    from jinja2 import Template
    from PIL.Image import Image

    from medgemma_client.result import Result
    from medgemma_client.study import Study

EDGE = 512
"""Longest edge of the image in pixels, without its legend: some 100 kB as JPEG."""

LONGEST = 4_000
"""Characters of an answer that a card shows; the report has all of it."""

_ENDED = {"succeeded", "failed", "cancelled"}


def result_card(result: Result) -> str:
    """The image that holds most of the first target's relevancy, under its map; the answer with
    the words that were explained; shares. Fetches what it takes: where that fails, says so."""
    record = result.record
    picture = failure = None
    shown = _most(record)
    try:
        picture = None if shown is None else _data_uri(_overlay(result, shown))
    except MedGemmaError as error:
        failure = error.code
    answer = result.answer
    target = record.targets[0] if record.targets else None
    return _render(
        "result",
        job_id=record.job_id,
        picture=picture,
        failure=failure,
        number=0 if shown is None else shown + 1,
        images=len(record.images),
        share=None if target is None or shown is None else f"{target.maps[shown].share:.0%}",
        explained=None if target is None else _explained(target.span),
        others=len(record.targets) - 1,
        pieces=_pieces(answer[:LONGEST], [one.span for one in record.targets]),
        cut=len(answer) > LONGEST,
        shares=[]
        if target is None
        else [(name, f"{part:.1%}") for name, part in target.shares.model_dump().items()],
        given=record.answer_given,
        misses=record.consistency,
        model=None if record.model is None else record.model.name,
    )


def status_card(
    job_id: str, status: Status | None, failure: str | None = None, seen: datetime | None = None
) -> str:
    """Where a job stands, in a line; without a status, how that is asked, or ``failure``, the code
    of what kept us from knowing it. seen: when it stood there, where that is not now; aware."""
    from medgemma_client.watching import in_words, overall

    ended = status is not None and status.state.value in _ENDED
    return _render(
        "job",
        job_id=job_id,
        words=None if status is None else in_words(status),
        share=None if status is None or ended else round(100 * overall(status)),
        code=None if status is None or status.error is None else status.error.code,
        failure=failure,
        seen=None if seen is None else f"{seen.astimezone(UTC):%H:%M:%S} UTC",
    )


def study_card(study: Study) -> str:
    """What of a study will be shown to the model, and what was left out."""
    return _render(
        "study",
        what=study.kind,
        modality=study.modality,
        images=len(study.images),
        prior=0 if study.prior is None else len(study.prior.images),
        notes=study.notes,
    )


def _most(record: ExplanationRecord) -> int | None:
    if not record.images or not record.targets:
        return None
    shares = [one.share for one in record.targets[0].maps]
    return shares.index(max(shares))


def _overlay(result: Result, index: int) -> Image:
    """As ``Result.overlay``, drawn anew for an image that was made smaller: its legend, sides and
    notes are then of a size to be read."""
    from medgemma_tasks.pictures import draw_overlay, scaled

    grid, target = result.record.images[index], result.record.targets[0]
    image = result._backdrop(index)
    shrink = min(1.0, EDGE / max(image.size))
    size = (max(1, round(image.width * shrink)), max(1, round(image.height * shrink)))
    return draw_overlay(
        image.resize(size) if shrink < 1 else image,
        result.explanation.image_scores[index],
        square=scaled(grid.square, image.size, size),
        low=target.low,
        high=target.high,
        left_of_image=grid.image.attributes.left_of_image,
    )


def _data_uri(image: Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _explained(span: Span) -> str:
    if span.kind == "answer":
        return "the whole answer"
    return f"“{span.text}”" + (" in the prompt" if span.kind == "prompt" else "")


def _pieces(answer: str, spans: Sequence[Span]) -> list[tuple[str, bool]]:
    """The answer in pieces, each with whether it was explained; a target that is the whole answer
    marks nothing."""
    marked = [False] * len(answer)
    for span in spans:
        if span.kind != "answer" and span.char_start is not None and span.char_end is not None:
            for place in range(max(span.char_start, 0), min(span.char_end, len(answer))):
                marked[place] = True
    ends = [k for k in range(1, len(answer)) if marked[k] != marked[k - 1]]
    cuts = [0, *ends, len(answer)]
    return [(answer[a:b], marked[a]) for a, b in pairwise(cuts) if a < b]


def _render(kind: str, **told: Any) -> str:
    from medgemma_tasks.pictures import NOTICE

    return _template().render(kind=kind, notice=NOTICE, **told)


@lru_cache(maxsize=1)
def _template() -> Template:
    source = files("medgemma_client").joinpath("card.html.j2").read_text(encoding="utf-8")
    return careful().from_string(source)
