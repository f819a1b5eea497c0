"""Loading MedGemma, any Gemma 3 vision-language checkpoint, or the phantom that ships with us."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, Gemma3ForConditionalGeneration

from medgemma_tasks.errors import DeviceError, ModelLoadFailed
from medgemma_worker.phantom import checkpoint_path
from medgemma_worker.relevancy.attention import install

if TYPE_CHECKING:
    from transformers import Gemma3Processor

PHANTOM = "phantom"
DEFAULT_MODEL = "google/medgemma-1.5-4b-it"

_MEANING = (
    *("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json"),
    *("tokenizer*", "special_tokens_map.json", "*processor_config.json", "chat_template*"),
)
"""The files of a folder that decide what its model says."""


def choose_device(device: str = "auto") -> torch.device:
    """``auto`` is CUDA where there is one. Raises DeviceError for one that is not there."""
    if device == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise DeviceError(f"{device!r} is no device; use auto, cpu, cuda or cuda:N.") from None
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"{device!r} was asked for and this process sees {torch.cuda.device_count()} CUDA "
            "device(s); check the driver and CUDA_VISIBLE_DEVICES."
        )
    return chosen


def choose_dtype(dtype: str, device: torch.device, *, phantom: bool) -> torch.dtype:
    """bfloat16 on CUDA, float32 on the CPU. The phantom lies on disk as float16, which loses too
    much in attention: it always loads as float32."""
    if phantom:
        return torch.float32
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    chosen = {"float32": torch.float32, "bfloat16": torch.bfloat16}.get(dtype)
    if chosen is None:
        raise ModelLoadFailed(f"{dtype!r} is no dtype that works here; use float32 or bfloat16.")
    return chosen


def load_medgemma(
    name: str = DEFAULT_MODEL,
    *,
    device: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    attn_implementation: str | None = None,
) -> tuple[Gemma3ForConditionalGeneration, Gemma3Processor, torch.device]:
    """Load a model and its processor, frozen and in eval mode.

    Args:
        name: ``phantom``, a Hugging Face repository, or a folder with a checkpoint.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        dtype: ``auto``, ``float32`` or ``bfloat16``.
        revision: commit of the repository; None takes the newest.
        attn_implementation: taken so that calls written for other explainers run; the model always
            gets our own implementation, which needs no eager attention.

    Raises ModelLoadFailed or DeviceError. Only safetensors are read and no remote code is run.
    """
    del attn_implementation
    place = choose_device(device)
    phantom = name == PHANTOM
    source = str(checkpoint_path()) if phantom else name
    common: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
    if Path(source).is_dir():
        common = {"trust_remote_code": False, "local_files_only": True}
    try:
        processor = AutoProcessor.from_pretrained(source, **common)
        model, loaded = AutoModelForImageTextToText.from_pretrained(
            source,
            output_loading_info=True,
            dtype=choose_dtype(dtype, place, phantom=phantom),
            device_map={"": place},
            use_safetensors=True,
            **common,
        )
    except Exception as error:  # a damaged file may raise anything
        raise ModelLoadFailed(
            f"Model {name!r} could not be loaded ({type(error).__name__}). If it is a gated "
            "repository, accept its licence on the hub and set HF_TOKEN; if it is a folder, it "
            "must hold config.json, safetensors, tokenizer and processor files."
        ) from error
    if not isinstance(model, Gemma3ForConditionalGeneration):
        raise ModelLoadFailed(
            f"Model {name!r} is a {type(model).__name__}; only Gemma 3 vision-language models "
            "(Gemma3ForConditionalGeneration) can be explained."
        )
    unfit = sorted({*loaded["missing_keys"], *(str(key) for key in loaded["mismatched_keys"])})
    if unfit:
        # transformers fills the gap with random numbers, and the answers would look like answers.
        raise ModelLoadFailed(
            f"The checkpoint of {name!r} lacks {len(unfit)} weights or has them in another shape "
            f"(the first is {unfit[0]}); fetch it again."
        )
    model.eval()
    model.requires_grad_(False)
    install(model)
    return model, processor, place


def revision_of(name: str, model: Gemma3ForConditionalGeneration) -> str:
    """What names the weights: the hub's commit, or for a folder the hash of its files."""
    commit = getattr(model.config, "_commit_hash", None)
    if isinstance(commit, str) and commit:
        return commit
    folder = checkpoint_path() if name == PHANTOM else Path(name)
    digest = hashlib.sha256()
    for path in sorted({path for pattern in _MEANING for path in folder.glob(pattern)}):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.name} {content}\n".encode())
    return f"sha256-{digest.hexdigest()[:32]}"
