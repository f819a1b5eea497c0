"""An engine without torch that keeps a device busy for a set time, and stores what a real one does.

TIMED_SECONDS is how long the device takes for a job, TIMED_REPORTS how often it reports meanwhile.
Each job leaves a line in the file that TIMED_LEDGER names: its id, this process, and when its
device began and ended, on the clock that all processes of a machine share.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from medgemma_tasks.geometry import grid_square
from medgemma_tasks.models import (
    Consistency,
    ExplanationRequest,
    FineGrid,
    FineRange,
    ImageGrid,
    ImageMap,
    ImageRef,
    ModelRecord,
    ServedModel,
    Shares,
    Span,
    Stage,
    TargetRecord,
    Token,
)
from medgemma_tasks.pictures import to_png
from medgemma_tasks.settings import Settings
from medgemma_worker.engine import Explained, File

ANSWER = "No finding."
SIDE = 64
"""Pixels of a picture's side: what is measured is the number of writes, not of bytes."""

PICTURES = ("heatmap", "overlay", "fine-heatmap", "fine-overlay")
"""With the arrays and the mark: six writes a job of one image."""


class TimedEngine:
    """Sleeps where a model computes. One device: one job is in ``explain`` at a time."""

    def __init__(self, name: str) -> None:
        self._seconds = float(os.environ.get("TIMED_SECONDS", "4"))
        self._reports = int(os.environ.get("TIMED_REPORTS", "1"))
        self._ledger = os.environ.get("TIMED_LEDGER")
        self._files = _files()
        self.served = served(name)

    # --- as the queue side calls it now: prepare, answer, explain, finish --------------------

    def prepare(self, request: ExplanationRequest, images: Sequence[Image.Image]) -> Any:
        return request

    together = 1

    def length(self, asked: Any) -> int:
        return 1

    def weight(self, answered: Any) -> int:
        return 1

    def answer(self, asked: Sequence[Any], tell: Callable[[Sequence[float]], Any]) -> list[Any]:
        return list(asked)

    def explain(self, *arguments: Any) -> Any:
        """``(answered, tell)``; or, of an older queue side, ``(request, images, report)``."""
        if len(arguments) == 2:
            answered, tell = arguments
            for one in answered:
                self._compute(one, tell)
            return answered
        request, _, report = arguments
        report(Stage.GENERATING, 0.0)
        self._compute(request, lambda progress: report(Stage.EXPLAINING, progress))
        return self.finish(request)

    def finish(self, found: Any) -> Explained:
        return _explained(found, self.served, self._seconds, self._files)

    # -------------------------------------------------------------------------------------------

    def _compute(self, request: ExplanationRequest, tell: Callable[[float], None]) -> None:
        began = time.monotonic()
        for step in range(1, self._reports + 1):
            until = began + self._seconds * step / self._reports
            time.sleep(max(until - time.monotonic(), 0.0))
            tell(step / self._reports)
        if self._ledger is not None:
            with Path(self._ledger).open("a") as file:
                file.write(f"{request.job_id} {os.getpid()} {began} {time.monotonic()}\n")


def load(settings: Settings) -> TimedEngine:
    """What MEDGEMMA_ENGINE names."""
    return TimedEngine(settings.model)


def served(name: str) -> ServedModel:
    return ServedModel(
        name=name,
        revision="timed-1",
        method="timed",
        method_version="1",
        max_context_tokens=8192,
        tokens_per_image=256,
        max_new_tokens=512,
    )


def _files() -> dict[str, File]:
    """The artifacts of a job, the same for all."""
    png = to_png(Image.effect_noise((SIDE, SIDE), 64))
    files = {f"{name}-0.png": File(png, "image/png") for name in PICTURES}
    return {"relevancy.npz": File(os.urandom(4096), "application/octet-stream"), **files}


def _explained(
    request: ExplanationRequest, served: ServedModel, seconds: float, files: dict[str, File]
) -> Explained:
    shares = Shares(images=1.0, prompt=0.0, answer=0.0, special=0.0)
    span = Span(kind="answer", text=ANSWER, token_positions=(301,), tokens=(ANSWER,))
    (ref,) = request.images
    target = TargetRecord(
        span=span,
        scores=(0.5,),
        shares=shares,
        own_relevancy=0.1,
        low=0.0,
        high=1.0,
        maps=(ImageMap(share=1.0, peak_cell=(3, 4)),),
        fine=FineRange(low=0.0, high=1.0, peaks=((12, 16),)),
    )
    return Explained(
        answer=ANSWER,
        answer_given=False,
        thinking=None,
        targets=(target,),
        images=(_grid(ref),),
        tokens=(Token(position=301, text=ANSWER, role="answer"),),
        consistency=Consistency(checked=1, misses=0),
        model=ModelRecord(
            name=served.name,
            revision=served.revision,
            method=served.method,
            method_version=served.method_version,
            dtype="float32",
            device="cpu",
            versions={},
        ),
        seconds={"generating": 0.0, "explaining": seconds},
        peak_memory_bytes=1,
        files=files,
    )


def _grid(ref: ImageRef) -> ImageGrid:
    heatmap, overlay, fine_heatmap, fine_overlay = (f"{name}-0.png" for name in PICTURES)
    return ImageGrid(
        image=ref,
        rows=16,
        columns=16,
        square=grid_square(ref.width, ref.height, True),
        heatmap=heatmap,
        overlay=overlay,
        fine=FineGrid(rows=64, columns=64, heatmap=fine_heatmap, overlay=fine_overlay),
    )
