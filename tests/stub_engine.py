"""An engine without torch, for tests of the queue: the prompt says how it behaves.

``sleep N`` takes N seconds, reporting on the way; ``hang N`` takes them without reporting, and
``deaf`` hears no signal meanwhile; ``gate`` waits until there is a file STUB_LEDGER.gate; ``die``
kills its process; ``memory`` and ``crash`` raise. With ``once`` all that is for its first start,
and any other is over in a moment.

Each load of the engine, and each start and each end of a job, is a line in the file that
STUB_LEDGER names. STUB_LOAD_SECONDS is what a load takes, STUB_RELOAD_SECONDS what any but the
first does. STUB_LOAD says how a load ends (``fail``, ``die``), or for one device alone a file
STUB_LEDGER.broken-DEVICE, by its CUDA_VISIBLE_DEVICES.
"""

from __future__ import annotations

import io
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from medgemma_tasks.arrays import pack
from medgemma_tasks.errors import JobCancelled, KeywordNotInAnswer, MedGemmaError, ModelLoadFailed
from medgemma_tasks.explanation import ExplanationResult
from medgemma_tasks.models import (
    Consistency,
    ExplanationRequest,
    KeywordTarget,
    ModelRecord,
    ServedModel,
    Shares,
    Span,
    TextPart,
)
from medgemma_tasks.settings import Settings
from medgemma_worker.engine import Explained, File, Tell, TellBatch
from medgemma_worker.rendering import describe

ANSWER = "canary-answer: there is no pneumothorax."
ANSWER_TOKENS = 9


def load(settings: Settings) -> StubEngine:
    broken = Path(
        f"{os.environ.get('STUB_LEDGER')}.broken-{os.environ.get('CUDA_VISIBLE_DEVICES')}"
    )
    end = broken.read_text() if broken.exists() else os.environ.get("STUB_LOAD")
    if end == "fail":
        raise ModelLoadFailed("The stub was told not to load.")
    note("load", "-")
    seconds = os.environ.get("STUB_LOAD_SECONDS", "0")
    if _count("load") > 1:
        seconds = os.environ.get("STUB_RELOAD_SECONDS", seconds)
    if end == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(float(seconds))
    return StubEngine(settings.model, os.environ.get("STUB_REVISION", "stub-1"))


def note(what: str, job_id: str) -> None:
    path = os.environ.get("STUB_LEDGER")
    if path:
        with Path(path).open("a") as file:
            file.write(f"{what} {job_id} {os.getpid()}\n")


class StubEngine:
    def __init__(self, name: str = "phantom", revision: str = "stub-1") -> None:
        self._served = ServedModel(
            name=name,
            revision=revision,
            method="stub",
            method_version="1",
            max_context_tokens=8192,
            tokens_per_image=256,
            max_new_tokens=512,
        )

    @property
    def served(self) -> ServedModel:
        return self._served

    def prepare(self, request: ExplanationRequest, images: Sequence[Image.Image]) -> Question:
        return Question(request, images)

    together = 1

    def length(self, asked: Question) -> int:
        return 100

    def weight(self, answered: Question) -> int:
        return 1

    def answer(self, asked: Sequence[Question], tell: TellBatch) -> list[Question | MedGemmaError]:
        for question in asked:
            note("start", question.request.job_id)
        dropped = set(tell([0.0] * len(asked)))
        return [
            JobCancelled("It was dropped.") if place in dropped else question
            for place, question in enumerate(asked)
        ]

    def explain(self, answered: Sequence[Question], tell: Tell) -> Sequence[Question]:
        request = answered[0].request
        _behave(_prompt(request), request.job_id, tell)
        for target in request.targets:
            if not isinstance(target, KeywordTarget) or target.keyword in ANSWER:
                continue
            raise KeywordNotInAnswer(
                f"{target.keyword!r} is not in the answer: {ANSWER!r}.",
                keyword=target.keyword,
                answer=ANSWER,
            )
        tell(1.0)
        note("end", request.job_id)
        return answered

    def finish(self, found: Question) -> Explained:
        return explain(found.request, found.images, self._served)


@dataclass(frozen=True)
class Question:
    request: ExplanationRequest
    images: Sequence[Image.Image]


def _prompt(request: ExplanationRequest) -> str:
    parts = (part for message in request.messages for part in message.content)
    return " ".join(part.text for part in parts if isinstance(part, TextPart))


def _behave(prompt: str, job_id: str, tell: Tell) -> None:
    words = prompt.split()
    if "once" in words and _count(f"start {job_id}") > 1:
        return
    if "sleep" in words:
        seconds = float(words[words.index("sleep") + 1])
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.02))
            tell(1 - left / seconds)
    if "deaf" in words:
        # As one that hangs in a driver: no handler of Python's runs.
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)
    if "hang" in words:
        time.sleep(float(words[words.index("hang") + 1]))
    while "gate" in words and not Path(os.environ["STUB_LEDGER"] + ".gate").exists():
        time.sleep(0.05)
        tell(0.5)
    if "die" in words:
        os.kill(os.getpid(), signal.SIGKILL)
    if "memory" in words:
        raise MemoryError
    if "crash" in words:
        raise ValueError(f"cannot use {prompt}")


def _count(what: str) -> int:
    path = os.environ.get("STUB_LEDGER")
    lines = Path(path).read_text().splitlines() if path else []
    return sum(line.startswith(f"{what} ") for line in lines)


def explain(
    request: ExplanationRequest, images: Sequence[Image.Image], served: ServedModel
) -> Explained:
    results = [
        _result(ANSWER if k == 0 else f"target {k}", k, len(images))
        for k in range(len(request.targets))
    ]
    described = describe(results, request.images)
    files = {"relevancy.npz": File(pack(results), "application/octet-stream")}
    for k, image in enumerate(images):
        for name in ("heatmap", "overlay"):
            buffer = io.BytesIO()
            image.convert("RGB").save(buffer, "PNG")
            files[f"{name}-{k}.png"] = File(buffer.getvalue(), "image/png")
    return Explained(
        answer=ANSWER,
        answer_given=request.given_answer is not None,
        thinking=None,
        targets=described.targets,
        images=described.images,
        tokens=described.tokens,
        consistency=results[0].consistency,
        model=ModelRecord(
            name=served.name,
            revision=served.revision,
            method="stub",
            method_version="1",
            dtype="float32",
            device="cpu",
            versions={},
        ),
        seconds={"generating": 0.0, "explaining": 0.0},
        peak_memory_bytes=1,
        files=files,
        answer_tokens=0 if request.given_answer is not None else ANSWER_TOKENS,
    )


def _result(text: str, number: int, images: int) -> ExplanationResult:
    """The maps of a target: one cell of each image holds something, in a row of the target's."""
    scores = np.zeros((images, 16, 16), np.float32)
    for k in range(images):
        scores[k, 3 + number, k] = 0.25
    return ExplanationResult.from_scores(
        image_scores=scores,
        text_scores=[0.5],
        text_positions=[300],
        text_roles=["answer"],
        token_labels=[ANSWER],
        generated_text=ANSWER,
        own_relevancy=0.1,
        shares=Shares(images=0.5, prompt=0.25, answer=0.25, special=0.0),
        consistency=Consistency(checked=1, misses=0),
        spans=(Span(kind="answer", text=text, token_positions=(301,), tokens=(ANSWER,)),),
        metadata={"seq_len": 302},
    )
