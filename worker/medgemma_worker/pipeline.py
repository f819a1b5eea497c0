"""The engine behind the queue: a loaded model, and what it says made ready for the store."""

from __future__ import annotations

import importlib.metadata
import platform
import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import transformers
from PIL import Image

from medgemma_tasks.errors import MedGemmaError, OutOfMemory
from medgemma_tasks.explanation import ExplanationResult
from medgemma_tasks.models import ExplanationRequest, ModelRecord, ServedModel
from medgemma_tasks.settings import Settings
from medgemma_worker import conversation
from medgemma_worker.engine import Explained, Tell, TellBatch
from medgemma_worker.explainer import MedGemmaExplainer
from medgemma_worker.explaining import METHOD_VERSION, Answered, passes_of
from medgemma_worker.loading import load_medgemma, revision_of
from medgemma_worker.question import Question
from medgemma_worker.relevancy.methods import DEFAULT
from medgemma_worker.rendering import describe, render

if TYPE_CHECKING:
    from transformers import Gemma3ForConditionalGeneration, Gemma3Processor

MAX_NEW_TOKENS = 4096

TOGETHER = 4
"""Explained together at most. A CPU gains by it, a card is filled by one already; and they are all
painted after the step, not one beside the next."""

_PACKAGES = ("medgemma-explainer", "torch", "transformers", "accelerate", "numpy", "pillow")


@dataclass(frozen=True, repr=False)
class Prepared:
    """A request with its images, as they came and as tensors."""

    request: ExplanationRequest
    images: tuple[Image.Image, ...]
    asked: conversation.Prepared


@dataclass(frozen=True, repr=False)
class Replied:
    """A request with its answer."""

    asked: Prepared
    answered: Answered


@dataclass(frozen=True, repr=False)
class Found:
    """A request with its maps, nothing of it on the device any more."""

    asked: Prepared
    results: tuple[ExplanationResult, ...]
    peak_memory_bytes: int


class ModelEngine:
    """One loaded model that explains requests; see ``medgemma_worker.engine.Engine``."""

    def __init__(
        self,
        model: Gemma3ForConditionalGeneration,
        processor: Gemma3Processor,
        *,
        name: str,
        revision: str,
    ) -> None:
        self._explainer = MedGemmaExplainer(model, processor)
        self._device = model.device
        config = model.config
        self._served = ServedModel(
            name=name,
            revision=revision,
            method=DEFAULT,
            method_version=METHOD_VERSION,
            max_context_tokens=int(config.text_config.max_position_embeddings),
            tokens_per_image=int(config.mm_tokens_per_image),
            max_new_tokens=MAX_NEW_TOKENS,
        )
        self._record = ModelRecord(
            name=name,
            revision=revision,
            method=DEFAULT,
            method_version=METHOD_VERSION,
            dtype=str(model.dtype).removeprefix("torch."),
            device=_device_name(model.device),
            versions={
                "python": platform.python_version(),
                **{package: importlib.metadata.version(package) for package in _PACKAGES},
            },
        )

    @classmethod
    def load(cls, settings: Settings) -> ModelEngine:
        """Load what the settings name. Raises ModelLoadFailed or DeviceError."""
        transformers.utils.logging.disable_progress_bar()  # a worker's log is no terminal
        source = settings.model_path or settings.model
        model, processor, _ = load_medgemma(
            source, device=settings.device, dtype=settings.dtype, revision=settings.revision
        )
        engine = cls(model, processor, name=settings.model, revision=revision_of(source, model))
        engine._explainer.warm()
        return engine

    @property
    def served(self) -> ServedModel:
        return self._served

    def prepare(self, request: ExplanationRequest, images: Sequence[Image.Image]) -> Prepared:
        """Pictures and texts to tensors, on the CPU. For any thread, several at once."""
        question = Question(
            images=tuple(image.convert("RGB") for image in images),
            messages=request.messages,
            targets=request.targets,
            options=request.options,
            given_answer=request.given_answer,
        )
        return Prepared(request, tuple(images), self._explainer.prepare(question))

    @property
    def together(self) -> int:
        return TOGETHER

    def length(self, asked: Prepared) -> int:
        """New tokens at most."""
        return 0 if asked.asked.given is not None else asked.asked.limit

    def weight(self, answered: Replied) -> int:
        """Positions, for each pass over them."""
        return len(answered.answered.sequence.labels) * passes_of(answered.answered)

    def answer(self, asked: Sequence[Prepared], tell: TellBatch) -> list[Replied | MedGemmaError]:
        """All answered together, on the device's thread: each with what it would get alone, or its
        own error. Raises OutOfMemory for the batch as a whole."""
        with self._within_memory():
            found = self._explainer.answer([one.asked for one in asked], tell)
        return [
            answer if isinstance(answer, MedGemmaError) else Replied(one, answer)
            for one, answer in zip(asked, found, strict=True)
        ]

    def explain(self, answered: Sequence[Replied], tell: Tell) -> list[Found]:
        """The maps of some answers together, on the device's thread. Raises OutOfMemory besides
        their own errors."""
        with self._within_memory():
            found = self._explainer.explain_answers([one.answered for one in answered], tell)
        peak = _peak_memory(self._device)
        return [
            Found(one.asked, tuple(results), peak)
            for one, results in zip(answered, found, strict=True)
        ]

    def finish(self, found: Found) -> Explained:
        """Pictures, arrays and record. For any thread, several at once."""
        began = time.perf_counter()
        request, results = found.asked.request, found.results
        first, described = results[0], describe(results, request.images)
        files = render(results, described, found.asked.images)
        return Explained(
            answer=first.generated_text,
            answer_given=request.given_answer is not None,
            thinking=first.thinking,
            targets=described.targets,
            images=described.images,
            tokens=described.tokens,
            consistency=first.consistency,
            model=self._record.model_copy(update={"method": request.options.method}),
            seconds={**first.metadata["seconds"], "rendering": time.perf_counter() - began},
            peak_memory_bytes=found.peak_memory_bytes,
            files=files,
            answer_tokens=0 if request.given_answer is not None else _answered(first),
        )

    @contextmanager
    def _within_memory(self) -> Iterator[None]:
        """Raises OutOfMemory where the device has none left, once it has given back what it can."""
        try:
            yield
            return
        except (torch.cuda.OutOfMemoryError, MemoryError):
            pass
        except RuntimeError as error:  # what torch raises on a CPU
            if "can't allocate memory" not in str(error):
                raise
        # Not in the handler: there the error's frames still hold what filled the memory.
        self._explainer.release()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        raise OutOfMemory(
            "The device ran out of memory; send fewer images or a shorter prompt, or use a larger "
            "device."
        )


def load(settings: Settings) -> ModelEngine:
    """The loader that MEDGEMMA_ENGINE names by default."""
    return ModelEngine.load(settings)


def _answered(result: ExplanationResult) -> int:
    """Tokens of the answer, its end marker among them."""
    return int(result.metadata["seq_len"]) - int(result.metadata["input_len"])


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{device.type} ({torch.get_num_threads()} threads)"


def _peak_memory(device: torch.device) -> int:
    """Bytes: of the device on CUDA; on the CPU of the whole process since its start."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
