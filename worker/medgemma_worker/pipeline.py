"""The engine behind the queue: a loaded model, and what it says made ready for the store."""

from __future__ import annotations

import importlib.metadata
import platform
import resource
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import transformers
from PIL import Image

from medgemma_tasks.errors import OutOfMemory
from medgemma_tasks.models import ExplanationRequest, ModelRecord, ServedModel
from medgemma_tasks.settings import Settings
from medgemma_worker.engine import Cost, Explained, Report, Tell, TellBatch
from medgemma_worker.explainer import MedGemmaExplainer
from medgemma_worker.explaining import METHOD_VERSION
from medgemma_worker.loading import load_medgemma, revision_of
from medgemma_worker.question import Question
from medgemma_worker.relevancy.methods import DEFAULT
from medgemma_worker.rendering import describe, render

if TYPE_CHECKING:
    from transformers import Gemma3ForConditionalGeneration, Gemma3Processor

MAX_NEW_TOKENS = 4096
_PACKAGES = ("medgemma-explainer", "torch", "transformers", "accelerate", "numpy", "pillow")


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
        return cls(model, processor, name=settings.model, revision=revision_of(source, model))

    @property
    def served(self) -> ServedModel:
        return self._served

    def prepare(self, request: ExplanationRequest, images: Sequence[Image.Image]) -> Any:
        return (request, images)

    def cost(self, asked: Any) -> Cost:
        return Cost(prompt_tokens=300, new_tokens=0)

    def answer(self, asked: Sequence[Any], tell: TellBatch) -> list[Any]:
        tell([0.0] * len(asked))
        return list(asked)

    def explain(self, answered: Any, tell: Tell) -> Any:
        request, images = answered
        return self.explain_whole(request, images, lambda _, progress: tell(progress))

    def finish(self, found: Any) -> Explained:
        explained: Explained = found
        return explained

    def explain_whole(
        self, request: ExplanationRequest, images: Sequence[Image.Image], report: Report
    ) -> Explained:
        """See ``Engine.explain``. Raises OutOfMemory besides the request's own errors."""
        question = Question(
            images=tuple(image.convert("RGB") for image in images),
            messages=request.messages,
            targets=request.targets,
            options=request.options,
            given_answer=request.given_answer,
        )
        try:
            results = self._explainer.run(question, report)
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            raise OutOfMemory(
                "The device ran out of memory; send fewer images or a shorter prompt, or use a "
                "larger device."
            ) from None
        began = time.perf_counter()
        first, described = results[0], describe(results, request.images)
        files = render(results, described, images)
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
            peak_memory_bytes=_peak_memory(self._device),
            files=files,
        )


def load(settings: Settings) -> ModelEngine:
    """The loader that MEDGEMMA_ENGINE names by default."""
    return ModelEngine.load(settings)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{device.type} ({torch.get_num_threads()} threads)"


def _peak_memory(device: torch.device) -> int:
    """Bytes: of the device on CUDA; on the CPU of the whole process since its start."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
