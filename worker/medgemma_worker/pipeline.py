"""The engine behind the queue: a loaded model, and what it says made ready for the store."""

from __future__ import annotations

import importlib.metadata
import platform
import resource
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import transformers
from PIL import Image

from medgemma_tasks.errors import OutOfMemory
from medgemma_tasks.explanation import ExplanationResult, display_range
from medgemma_tasks.geometry import grid_square
from medgemma_tasks.models import (
    ExplanationRequest,
    ImageMap,
    ImageRef,
    ModelRecord,
    Options,
    ServedModel,
    TokenScore,
)
from medgemma_tasks.pictures import draw_heatmap, draw_overlay, to_png
from medgemma_tasks.settings import Settings
from medgemma_worker.engine import Explained, File, Report
from medgemma_worker.explainer import METHOD, METHOD_VERSION, MedGemmaExplainer
from medgemma_worker.loading import load_medgemma, revision_of

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
            method=METHOD,
            method_version=METHOD_VERSION,
            max_context_tokens=int(config.text_config.max_position_embeddings),
            tokens_per_image=int(config.mm_tokens_per_image),
            max_new_tokens=MAX_NEW_TOKENS,
        )
        self._record = ModelRecord(
            name=name,
            revision=revision,
            method=METHOD,
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

    def explain(
        self, request: ExplanationRequest, images: Sequence[Image.Image], report: Report
    ) -> Explained:
        """See ``Engine.explain``. Raises OutOfMemory besides the request's own errors."""
        try:
            result = self._explainer.run(
                images, request.messages, request.target, request.options, report
            )
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            raise OutOfMemory(
                "The device ran out of memory; send fewer images or a shorter prompt, or use a "
                "larger device."
            ) from None
        began = time.perf_counter()
        maps, files = render(result, request.images, images, request.options)
        return Explained(
            answer=result.generated_text,
            thinking=result.thinking,
            targets=result.spans,
            images=maps,
            tokens=_tokens(result),
            shares=result.shares,
            own_relevancy=result.own_relevancy,
            consistency=result.consistency,
            model=self._record,
            seconds={**result.metadata["seconds"], "rendering": time.perf_counter() - began},
            peak_memory_bytes=_peak_memory(self._device),
            files=files,
        )


def load(settings: Settings) -> ModelEngine:
    """The loader that MEDGEMMA_ENGINE names by default."""
    return ModelEngine.load(settings)


def render(
    result: ExplanationResult,
    refs: Sequence[ImageRef],
    images: Sequence[Image.Image],
    options: Options,
) -> tuple[tuple[ImageMap, ...], dict[str, File]]:
    """Heatmaps, overlays and arrays of a result, with what the record says of each image."""
    low, high = display_range(result.image_scores)
    total = float(result.image_scores.sum())
    files = {"relevancy.npz": File(result.arrays(), "application/octet-stream")}
    maps = []
    for k, (ref, image, scores) in enumerate(zip(refs, images, result.image_scores, strict=True)):
        square = grid_square(image.width, image.height, options.pad_to_square)
        heatmap = draw_heatmap(scores, size=image.size, square=square, low=low, high=high)
        overlay = draw_overlay(
            image,
            scores,
            square=square,
            low=low,
            high=high,
            left_of_image=ref.attributes.left_of_image,
        )
        files[f"heatmap-{k}.png"] = File(to_png(heatmap), "image/png")
        files[f"overlay-{k}.png"] = File(to_png(overlay), "image/png")
        maps.append(
            ImageMap(
                image=ref,
                rows=scores.shape[0],
                columns=scores.shape[1],
                square=square,
                share=result.shares.images * float(scores.sum()) / total if total else 0.0,
                low=low,
                high=high,
                peak_cell=result.peak_cell(k),
                heatmap=f"heatmap-{k}.png",
                overlay=f"overlay-{k}.png",
            )
        )
    return tuple(maps), files


def _tokens(result: ExplanationResult) -> tuple[TokenScore, ...]:
    return tuple(
        TokenScore.model_validate(
            {"position": int(position), "text": text, "role": role, "score": float(score)}
        )
        for position, text, role, score in zip(
            result.text_positions,
            result.token_labels,
            result.text_roles,
            result.text_scores,
            strict=True,
        )
    )


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{device.type} ({torch.get_num_threads()} threads)"


def _peak_memory(device: torch.device) -> int:
    """Bytes: of the device on CUDA; on the CPU of the whole process since its start."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
