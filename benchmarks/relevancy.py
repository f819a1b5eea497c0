"""What an explanation costs beside the floor, and beside the retained-gradient reference.

A model with MedGemma's layer pattern, scaled down (12 layers, hidden 256, 8 query and 4 key/value
heads of 32, window 1024, random weights, float32), one image of 256 tokens, the rest text. The
floor is one plain forward and backward pass on SDPA: weights frozen, no relevancy, the same
truncation, logits_to_keep and embeddings. Times are medians of interleaved runs, and the ratios are
taken within each round. Peak memory is that of a process of its own, above what it held before the
pass (Linux only).

    python benchmarks/relevancy.py                 the table
    python benchmarks/relevancy.py --lengths 300   fewer lengths
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, SiglipVisionConfig
from transformers.models.gemma3 import Gemma3TextConfig

from medgemma_worker.relevancy.attention import install
from medgemma_worker.relevancy.explain import Passage, explain
from medgemma_worker.relevancy.retained import retained_row

LIMIT = 1.25
IMAGE = 256
RETAINED_UP_TO = 2000
"""Positions beyond which the reference takes too much memory and time to stand in the table."""

Way = Callable[[], object]


def build() -> Gemma3ForConditionalGeneration:
    torch.manual_seed(0)
    text = Gemma3TextConfig(
        vocab_size=1000,
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=12,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=32,
        query_pre_attn_scalar=32,
        sliding_window=1024,
        max_position_embeddings=32_768,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )
    vision = SiglipVisionConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=1
    )
    config = Gemma3Config(text_config=text, vision_config=vision, image_token_index=999)
    return Gemma3ForConditionalGeneration(config).eval().requires_grad_(False)


def passage_of(model: Gemma3ForConditionalGeneration, length: int) -> Passage:
    """One image after five tokens of text, and a target at the end."""
    generator = torch.Generator().manual_seed(length)
    ids = torch.randint(3, 900, (length + 1,), generator=generator)
    kinds = torch.zeros(1, length + 1, dtype=torch.long)
    kinds[0, 5 : 5 + min(IMAGE, length - 20)] = 1
    embeddings = model.get_input_embeddings()(ids[None]).detach()
    return Passage(embeddings, kinds, ids)


def floor(model: Gemma3ForConditionalGeneration, passage: Passage) -> Tensor:
    length = passage.token_ids.numel() - 1
    start = passage.embeddings[:, :length].detach().requires_grad_(True)
    with torch.enable_grad():
        logits = model(
            inputs_embeds=start,
            token_type_ids=passage.kinds[:, :length],
            use_cache=False,
            logits_to_keep=1,
        ).logits
        return torch.autograd.grad(logits[0, 0, passage.token_ids[length]], start)[0]


def ways(model: Gemma3ForConditionalGeneration, length: int) -> dict[str, Way]:
    passage = passage_of(model, length)
    cut = passage.embeddings[:, :length], passage.kinds[:, :length]

    def plain() -> Tensor:
        model.set_attn_implementation({"text_config": "sdpa"})
        try:
            return floor(model, passage)
        finally:
            install(model)

    found: dict[str, Way] = {
        "floor": plain,
        "ours": lambda: explain(model, [passage], [[(length,)]], methods=["chefer"]),
        "ours, checkpointed": lambda: explain(
            model, [passage], [[(length,)]], methods=["chefer"], checkpoint=True
        ),
        "retained, frozen": lambda: retained_row(model, *cut, passage.token_ids, (length,)),
        "retained, trainable": lambda: retained_row(
            model, *cut, passage.token_ids, (length,), trainable=True
        ),
    }
    if length > RETAINED_UP_TO:
        return {name: way for name, way in found.items() if not name.startswith("retained")}
    return found


def timed(way: Way) -> float:
    began = time.perf_counter()
    way()
    return time.perf_counter() - began


def peak_of(name: str, length: int) -> float:
    """Peak MB above what was held before, in a process of its own."""
    out = subprocess.run(
        [sys.executable, __file__, "--peak", name, "--lengths", str(length)],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(out.stdout)


def peak(name: str, length: int) -> None:
    model = build()
    install(model)
    ways(model, 64)[name]()  # what is loaded once is no part of it
    way = ways(model, length)[name]
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = held("VmRSS")
    way()
    print(held("VmHWM") - before)


def held(field: str) -> float:
    """MB of this process: VmRSS now, VmHWM at most."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[300, 1000, 2000, 4000])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        peak(options.peak, options.lengths[0])
        return 0
    model = build()
    install(model)
    good = True
    print(f"{'length':>6}  {'way':<20} {'seconds':>8} {'of floor':>9} {'peak MB':>8}")
    for length in options.lengths:
        table = ways(model, length)
        seconds: dict[str, list[float]] = {name: [] for name in table}
        for turn in range(options.rounds + 1):
            for name, way in table.items():
                taken = timed(way)
                if turn:  # the first is for warming up
                    seconds[name].append(taken)
        for name, times in seconds.items():
            pairs = zip(times, seconds["floor"], strict=True)
            ratio = statistics.median(own / base for own, base in pairs)
            median = statistics.median(times)
            print(f"{length:>6}  {name:<20} {median:>8.3f} {ratio:>8.2f}x", end="")
            print(f" {peak_of(name, length):>8.0f}", flush=True)
            good = good and (name != "ours" or ratio <= LIMIT)
    print(f"ours at most {LIMIT}x the floor at every length: {'met' if good else 'MISSED'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
