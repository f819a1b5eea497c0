"""What a map over patches costs, at the shape of MedGemma's vision tower.

896 x 896 pixels, 4096 patches, hidden 1152, 16 heads; 27 layers in MedGemma, of which ``--layers``
are built (random weights), since all layers cost the same. One image. Beside ``patch_maps`` stand
the tower's forward pass alone, which any answer about the image needs, and the floor: a plain
forward and backward pass down to the patch embeddings, weights frozen, no relevancy. Times are the
fastest of the rounds. Peak memory is above what was held before the pass (on a CPU: Linux only).

    python benchmarks/patch_cost.py --layers 27 --device cuda    on a GPU
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, SiglipVisionConfig
from transformers.models.gemma3 import Gemma3TextConfig

from medgemma_worker.relevancy.patches import patch_maps

HIDDEN, TOKENS = 64, 256
"""Of the language model, which takes no part; and of an image."""


def build(layers: int, side: int, device: str) -> Gemma3ForConditionalGeneration:
    torch.manual_seed(0)
    text = Gemma3TextConfig(
        vocab_size=300,
        hidden_size=HIDDEN,
        intermediate_size=HIDDEN,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=HIDDEN,
    )
    vision = SiglipVisionConfig(
        hidden_size=1152,
        intermediate_size=4304,
        num_hidden_layers=layers,
        num_attention_heads=16,
        image_size=side,
        patch_size=14,
        vision_use_head=False,
    )
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=TOKENS)
    model = Gemma3ForConditionalGeneration(config).eval().requires_grad_(False)
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=0.03)
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    return model.to(device, dtype)


def floor(model: Gemma3ForConditionalGeneration, pixels: Tensor, gradient: Tensor) -> Tensor:
    starts: list[Tensor] = []

    def begin(module: object, arguments: object, output: Tensor) -> None:
        starts.append(output.requires_grad_(True))

    hook = model.model.vision_tower.embeddings.register_forward_hook(begin)
    try:
        with torch.enable_grad():
            features = model.model.get_image_features(pixels, return_dict=True).pooler_output
            return torch.autograd.grad(features, starts, gradient)[0]
    finally:
        hook.remove()


def cost(way: Callable[[], object], device: str, rounds: int) -> tuple[float, float]:
    """Seconds of the fastest round; MB at the peak above what was held before."""
    seconds = []
    for _ in range(rounds):
        before = forget(device)
        began = time.perf_counter()
        way()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return min(seconds), peak(device) - before


def forget(device: str) -> float:
    """Forgets the peak so far; MB held now."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 2**20
    Path("/proc/self/clear_refs").write_text("5")
    return held("VmRSS")


def peak(device: str) -> float:
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**20
    return held("VmHWM")


def held(field: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--side", type=int, default=896, help="pixels, a multiple of 224")
    parser.add_argument("--targets", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2, help="the first warms up")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    model = build(options.layers, options.side, options.device)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(1, 3, options.side, options.side, generator=generator)
    pixels = pixels.to(model.device, model.dtype)
    scores = torch.rand(options.targets, 1, TOKENS, generator=generator)
    gradients = torch.randn(options.targets, 1, TOKENS, HIDDEN, generator=generator)
    gradients = gradients.to(model.device, model.dtype)
    with torch.no_grad():
        ways: dict[str, Callable[[], object]] = {
            "forward alone": lambda: model.model.get_image_features(pixels, return_dict=True),
            "floor": lambda: floor(model, pixels, gradients[0]),
            "patch_maps": lambda: patch_maps(model, pixels, scores, gradients),
        }
        print(f"{options.layers} layers, {options.targets} targets, {options.device}")
        for name, way in ways.items():
            seconds, memory = cost(way, options.device, options.rounds)
            print(f"{name:<14} {seconds:>8.3f} s {memory:>8.0f} MB", flush=True)
    return 0


if __name__ == "__main__":
    main()
