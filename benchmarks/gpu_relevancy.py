"""The table of benchmarks/relevancy.py on a GPU, at MedGemma 4B's true shape with random weights.

    python benchmarks/gpu_relevancy.py                          on a data-centre GPU
    python benchmarks/gpu_relevancy.py --shape tiny --device cpu --lengths 300 --slices 2

It has been run on a CPU at a tiny shape only, and a test keeps it running so: no GPU was at hand
when it was written, so nothing here is known of the true shape's times.

Needs torch and transformers alone, and the package on PYTHONPATH (client:tasks:worker). Ceilings of
the card (matrix products, memory) are measured in the same run. Sequences hold as many images of
256 tokens as fit; last comes a CT of 85 slices (21,760 image tokens), checkpointed. Times are
medians of interleaved rounds; peaks stand beside what memory.py foresees. A way that runs out of
memory says so.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch
from _measure import interleaved, ratio, timed
from _models import BETWEEN, IMAGE, LEAD, SHAPES, Way, build, passage_of, pixels_of, ways
from transformers import Gemma3ForConditionalGeneration

from medgemma_worker.relevancy.explain import embed
from medgemma_worker.relevancy.memory import pass_bytes

QUESTION = 60
"""Tokens of text after the last image: a question and an answer."""

CHECKPOINTED = "ours, checkpointed"
Model = Gemma3ForConditionalGeneration


def ceilings(device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """TFLOP/s of a large matrix product, and TB/s of a copy (read and written)."""
    side = 8192 if device.type == "cuda" else 512
    a = torch.randn(side, side, device=device, dtype=dtype)
    big = torch.empty(side * side * 4, device=device, dtype=torch.float32)
    product = min(timed(lambda: a @ a, device) for _ in range(5))
    copy = min(timed(big.clone, device) for _ in range(5))
    return {"TFLOP/s": 2 * side**3 / product / 1e12, "TB/s": 2 * big.nbytes / copy / 1e12}


def peak_of(way: Way, device: torch.device) -> dict[str, float | str]:
    """GiB at the peak above the weights (of a GPU), after one run; or that it ran out of memory."""
    if device.type != "cuda":
        way()
        return {}
    base = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    try:
        way()
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()
        return {"failed": "out of memory"}
    return {"peak GiB": (torch.cuda.max_memory_allocated(device) - base) / 2**30}


def estimated(model: Model, name: str, length: int) -> dict[str, float]:
    """GiB that memory.py foresees for a way of ours."""
    if not name.startswith("ours"):
        return {}
    config, checkpoint = model.config.text_config, name == CHECKPOINTED
    foreseen = pass_bytes(config, length, model.dtype, model.device, checkpoint=checkpoint)
    return {"estimated GiB": foreseen / 2**30}


def rows_of(
    model: Model, table: dict[str, Way], length: int, rounds: int
) -> list[dict[str, object]]:
    """One row for each way: its peak, and its median seconds beside those of the floor."""
    device = model.device
    rows: dict[str, dict[str, object]] = {}
    for name, way in table.items():
        rows[name] = {"length": length, "way": name, **estimated(model, name, length)}
        rows[name].update(peak_of(way, device))
    fit = {
        name: synchronised(way, device) for name, way in table.items() if "failed" not in rows[name]
    }
    seconds = interleaved(fit, dict.fromkeys(fit, rounds))
    for name, times in seconds.items():
        rows[name]["seconds"] = statistics.median(times)
        if "floor" in seconds:
            rows[name]["of floor"] = ratio(times, seconds["floor"])
    return list(rows.values())


def synchronised(way: Way, device: torch.device) -> Callable[[], object]:
    return lambda: timed(way, device)


def images_in(length: int) -> int:
    return max(0, (length - LEAD - QUESTION) // (IMAGE + BETWEEN))


def vision(model: Model, rounds: int) -> float:
    """Seconds of one image's way into the embeddings."""
    passage = passage_of(model, LEAD + IMAGE + BETWEEN + QUESTION)
    ids, kinds, pixels = passage.token_ids[None], passage.kinds, pixels_of(model, 1)
    times = [
        timed(lambda: embed(model, ids, kinds, pixels), model.device) for _ in range(rounds + 1)
    ]
    return statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", choices=SHAPES, default="medgemma-4b")
    parser.add_argument("--lengths", type=int, nargs="+", default=[350, 2000, 22_000])
    parser.add_argument("--slices", type=int, default=85, help="images of the last row")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    device = torch.device(options.device)
    cuda = device.type == "cuda"
    dtype = torch.bfloat16 if cuda else torch.float32
    card = torch.cuda.get_device_name(device) if cuda else "cpu"
    report: dict[str, object] = {"card": card, "date": datetime.now(UTC).date().isoformat()}
    report["torch"], report["ceilings"] = torch.__version__, ceilings(device, dtype)
    model = build(options.shape, device, dtype)
    report["vision pass of one image, seconds"] = vision(model, options.rounds)
    print(json.dumps(report), flush=True)
    rows: list[dict[str, object]] = []
    for length in options.lengths:
        rows += rows_of(model, ways(model, length, images_in(length)), length, options.rounds)
        print(*(json.dumps(row) for row in rows if row["length"] == length), sep="\n", flush=True)
    length = LEAD + options.slices * (IMAGE + BETWEEN) + QUESTION
    only = {CHECKPOINTED: ways(model, length, options.slices)[CHECKPOINTED]}
    for row in rows_of(model, only, length, 1):
        row["slices"], row["image tokens"] = options.slices, options.slices * IMAGE
        rows.append(row)
        print(json.dumps(row), flush=True)
    report["rows"] = rows
    if out := os.environ.get("OUT"):
        Path(out, "gpu_relevancy.json").write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
