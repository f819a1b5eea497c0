"""The table of benchmarks/relevancy.py on a GPU, at MedGemma 4B's true shape with random weights.

    python benchmarks/gpu_relevancy.py                          on a data-centre GPU
    python benchmarks/gpu_relevancy.py --shape tiny --device cpu --lengths 300   to try the script

Needs torch and transformers alone, and the package on PYTHONPATH (client:tasks:worker). Ceilings of
the card (matrix products, memory) are measured in the same run. Sequences hold as many images of
256 tokens as fit: at 22,000 positions 85 slices of a CT. A way that runs out of memory says so.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch
from relevancy import floor  # the script beside this one
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, SiglipVisionConfig
from transformers.models.gemma3 import Gemma3TextConfig

from medgemma_worker.relevancy.attention import install
from medgemma_worker.relevancy.explain import Passage, explain
from medgemma_worker.relevancy.retained import retained_row

SHAPES = {
    "medgemma-4b": {
        "hidden_size": 2560,
        "intermediate_size": 10_240,
        "num_hidden_layers": 34,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "vocab_size": 262_208,
        "sliding_window": 1024,
    },
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 7,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 16,
        "vocab_size": 1000,
        "sliding_window": 128,
    },
}
IMAGE, BETWEEN, LEAD = 256, 4, 5


def build(shape: str, device: torch.device, dtype: torch.dtype) -> Gemma3ForConditionalGeneration:
    text = Gemma3TextConfig(
        **SHAPES[shape], query_pre_attn_scalar=256, max_position_embeddings=131_072, pad_token_id=0
    )
    vision = SiglipVisionConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=1
    )
    last = SHAPES[shape]["vocab_size"] - 1
    config = Gemma3Config(text_config=text, vision_config=vision, image_token_index=last)
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            model = Gemma3ForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(before)
    return model.eval().requires_grad_(False)


def passage_of(model: Gemma3ForConditionalGeneration, length: int) -> Passage:
    """Images with a little text between, a question, and a target at the end."""
    ids = torch.randint(3, 900, (length + 1,), device=model.device)
    kinds = torch.zeros(1, length + 1, dtype=torch.long, device=model.device)
    at = LEAD
    while at + IMAGE + 40 < length:
        kinds[0, at : at + IMAGE] = 1
        at += IMAGE + BETWEEN
    return Passage(model.get_input_embeddings()(ids[None]).detach(), kinds, ids)


def ceilings(device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """TFLOP/s of a large matrix product, and TB/s of a copy (read and written)."""
    side = 8192 if device.type == "cuda" else 512
    a = torch.randn(side, side, device=device, dtype=dtype)
    big = torch.empty(side * side * 4, device=device, dtype=torch.float32)
    product = min(timed(lambda: a @ a, device) for _ in range(5))
    copy = min(timed(big.clone, device) for _ in range(5))
    return {"TFLOP/s": 2 * side**3 / product / 1e12, "TB/s": 2 * big.nbytes / copy / 1e12}


def timed(way: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    way()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def ways(model: Gemma3ForConditionalGeneration, length: int) -> dict[str, Callable[[], object]]:
    passage = passage_of(model, length)
    cut = passage.embeddings[:, :length], passage.kinds[:, :length]
    one = [[(length,)]]

    def plain() -> object:
        model.set_attn_implementation({"text_config": "sdpa"})
        try:
            return floor(model, passage)
        finally:
            install(model)

    def reference(trainable: bool) -> Callable[[], object]:
        return lambda: retained_row(model, *cut, passage.token_ids, (length,), trainable=trainable)

    return {
        "floor": plain,
        "ours": lambda: explain(model, [passage], one, methods=["chefer"]),
        "ours, checkpointed": lambda: explain(
            model, [passage], one, methods=["chefer"], checkpoint=True
        ),
        "retained, frozen": reference(False),
        "retained, trainable": reference(True),
    }


def row_of(way: Callable[[], object], device: torch.device, rounds: int) -> dict[str, float | str]:
    """Median seconds and peak memory above the weights, or that it ran out of memory."""
    cuda = device.type == "cuda"
    try:
        timed(way, device)
        base = torch.cuda.memory_allocated(device) if cuda else 0
        if cuda:
            torch.cuda.reset_peak_memory_stats(device)
        seconds = statistics.median(timed(way, device) for _ in range(rounds))
        peak = (torch.cuda.max_memory_allocated(device) - base) / 2**30 if cuda else 0.0
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()
        return {"failed": "out of memory"}
    return {"seconds": seconds, "peak GiB": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", choices=SHAPES, default="medgemma-4b")
    parser.add_argument("--lengths", type=int, nargs="+", default=[350, 2000, 22_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    device = torch.device(options.device)
    cuda = device.type == "cuda"
    dtype = torch.bfloat16 if cuda else torch.float32
    card = torch.cuda.get_device_name(device) if cuda else "cpu"
    report: dict[str, object] = {"card": card, "date": datetime.now(UTC).date().isoformat()}
    report["torch"], report["ceilings"] = torch.__version__, ceilings(device, dtype)
    print(json.dumps(report), flush=True)
    model = build(options.shape, device, dtype)
    install(model)
    rows = []
    for length in options.lengths:
        base = 0.0
        for name, way in ways(model, length).items():
            row = row_of(way, device, options.rounds)
            if name == "floor":
                base = float(row.get("seconds", 0.0))
            if base and "seconds" in row:
                row["of floor"] = float(row["seconds"]) / base
            rows.append({"length": length, "way": name, **row})
            print(json.dumps(rows[-1]), flush=True)
    report["rows"] = rows
    if out := os.environ.get("OUT"):
        Path(out, "gpu_relevancy.json").write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
