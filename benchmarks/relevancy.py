"""The figures of the relevancy engine, ours / reference, in one run, paired.

    python benchmarks/relevancy.py                     all sections
    python benchmarks/relevancy.py --only cost         one: equality, cost, tokens, memory
    python benchmarks/relevancy.py --lengths 300       fewer lengths of cost
    python benchmarks/relevancy.py --shape tiny --rounds 1 ...   to try the script

Sections: equality with the retained-gradient reference; cost of one map beside the floor; every
token of an answer in one pass; peak memory with checkpointing.

The model of the last three has MedGemma's pattern of layers, scaled down (12 layers, hidden 256, 8
query and 4 key/value heads of 32, window 1024, random weights, float32); one image of 256 tokens,
the rest text. The floor is a plain forward and backward pass on transformers' SDPA and mask:
weights frozen, no relevancy, the same truncation, logits_to_keep, embeddings and use_cache. Images
are merged into the embeddings before either begins: their pass is the same and printed apart. Times
are medians of interleaved runs, ratios are taken within rounds. Peaks are those of a process of
its own, above what it held before (Linux only). Exit status 1 if a limit is missed.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys

import _equality
import torch
from _measure import interleaved, peak, peak_of, ratio, timed, verdict
from _models import build, floor, ours, passage_of, pixels_of, retained_bytes, ways
from transformers import Gemma3ForConditionalGeneration

from medgemma_worker.relevancy.explain import embed
from medgemma_worker.relevancy.memory import free_bytes, pass_bytes
from medgemma_worker.relevancy.visibility import DENSE_LENGTH

COST, AIM = 1.25, 1.10
TOKENS = 1.25
PEAK_MB, GROWTH, ESTIMATE = 1300, 2.3, 2.0
RETAINED_SHARE = 0.6
"""Part of the free memory that the reference may fill; beyond, it is left out, and said to be."""

RETAINED_ROUNDS = 3
"""Rounds of the reference at 1,000 positions and more, where it takes many times as long."""

SECTIONS = ("equality", "cost", "tokens", "memory")
Model = Gemma3ForConditionalGeneration


def estimated(model: Model, way: str, length: int) -> float | None:
    """MB that memory.py foresees for a way of ours."""
    if not way.startswith("ours"):
        return None
    config, checkpoint = model.config.text_config, way.endswith("checkpointed")
    device = torch.device("cpu")
    return pass_bytes(config, length, torch.float32, device, checkpoint=checkpoint) / 2**20


def cost(model: Model, options: argparse.Namespace) -> bool:
    good = fits = True
    print(
        f"{'length':>6}  {'way':<20} {'seconds':>8} {'of floor':>9} {'peak MB':>8}"
        f" {'estimated MB':>12}"
    )
    for length in options.lengths:
        table = ways(model, length)
        if options.ways:
            table = {name: table[name] for name in options.ways}
        needed, free = (
            retained_bytes(model.config.text_config, length),
            free_bytes(torch.device("cpu")),
        )
        left_out = needed > RETAINED_SHARE * free
        if left_out:
            table = {name: way for name, way in table.items() if not name.startswith("retained")}
        rounds = {
            name: min(options.rounds, RETAINED_ROUNDS)
            if name.startswith("retained") and length >= 1000
            else options.rounds
            for name in table
        }
        seconds = interleaved(table, rounds)
        for name, times in seconds.items():
            of_floor = ratio(times, seconds["floor"])
            used = peak_of(__file__, ["--peak", name, *shape(options), "--lengths", str(length)])
            foreseen = estimated(model, name, length)
            print(
                f"{length:>6}  {name:<20} {statistics.median(times):>8.3f} {of_floor:>8.2f}x",
                end="",
            )
            print(f" {used:>8.0f} {f'{foreseen:.0f}' if foreseen else '':>12}", flush=True)
            good = good and (name != "ours" or of_floor <= COST)
            if foreseen:
                fits = fits and 1 / ESTIMATE <= foreseen / used <= ESTIMATE
        if left_out:
            print(
                f"{length:>6}  retained, both: left out: about {needed / 1e9:.0f} GB are more than "
                f" {RETAINED_SHARE:.0%} of the {free / 1e9:.0f} GB that are free"
            )
    good = verdict(f"ours at most {COST}x the floor at every length (aim {AIM}x)", good)
    return verdict(f"estimates within {ESTIMATE:.0f}x of the peaks", fits) and good


def tokens(model: Model, options: argparse.Namespace) -> bool:
    """Every token of an answer, beside as many backward passes and as many single calls."""
    count, prompt = options.answer, options.prompt
    passage = passage_of(model, prompt + count - 1)
    positions = list(range(prompt, prompt + count))
    rounds = min(options.rounds, 3)
    table = {
        "floor": lambda: floor(model, passage, positions),
        "ours": lambda: ours(model, passage, positions),
        "single": lambda: [ours(model, passage, [p]) for p in positions],
    }
    seconds = interleaved(table, dict.fromkeys(table, rounds))
    names = {
        "floor": f"one forward, {count} backwards, no relevancy",
        "ours": f"ours, {count} targets in one pass",
        "single": f"{count} single calls, the answer given",
    }
    for name, times in seconds.items():
        of_floor = ratio(times, seconds["floor"])
        print(f"{names[name]:<46} {statistics.median(times):>8.3f} s {of_floor:>6.2f}x")
    pixels = pixels_of(model, 1)
    ids, kinds = passage.token_ids[None], passage.kinds
    vision = statistics.median(timed(lambda: embed(model, ids, kinds, pixels)) for _ in range(3))
    print(f"{'the vision pass, apart (once; in each single call)':<50} {vision:>4.3f} s")
    of_floor, of_single = (
        ratio(seconds["ours"], seconds["floor"]),
        ratio(seconds["ours"], seconds["single"]),
    )
    good = verdict(f"ours at most {TOKENS}x the floor ({of_floor:.2f}x)", of_floor <= TOKENS)
    return (
        verdict(f"ours less than {count} single calls ({of_single:.2f}x)", of_single < 1) and good
    )


def memory(model: Model, options: argparse.Namespace) -> bool:
    name, peaks = "ours, checkpointed", []
    print(f"{'length':>6} {'peak MB':>8} {'growth':>7} {'estimated MB':>12}   checkpointed")
    for length in options.memory_lengths:
        used = peak_of(__file__, ["--peak", name, *shape(options), "--lengths", str(length)])
        growth = f"{used / peaks[-1]:.2f}x" if peaks else ""
        foreseen = estimated(model, name, length) or 0.0
        print(f"{length:>6} {used:>8.0f} {growth:>7} {foreseen:>12.0f}", flush=True)
        peaks.append(used)
    growths = [b / a for a, b in itertools.pairwise(peaks)]
    print(f"beyond {DENSE_LENGTH} positions no mask of S x S is made")
    good = verdict(f"at most {PEAK_MB} MB at {options.memory_lengths[-1]}", peaks[-1] <= PEAK_MB)
    return (
        verdict(f"at most {GROWTH}x for each doubling", max(growths, default=0) <= GROWTH) and good
    )


def shape(options: argparse.Namespace) -> list[str]:
    return ["--shape", options.shape]


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=SECTIONS)
    parser.add_argument("--shape", choices=["scaled", "tiny"], default="scaled")
    parser.add_argument("--lengths", type=int, nargs="+", default=[300, 1000, 2000, 4000])
    parser.add_argument("--memory-lengths", type=int, nargs="+", default=[2000, 4000, 8000])
    parser.add_argument("--ways", nargs="+", help="ways of cost by name; the floor is needed")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--prompt", type=int, default=300, help="tokens before the answer")
    parser.add_argument("--answer", type=int, default=60, help="tokens, each explained")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    options = parsed()
    if options.peak:
        model = build(options.shape)
        smallest = ways(model, 64, images=0)[options.peak]
        print(peak(smallest, ways(model, options.lengths[0])[options.peak]))
        return 0
    good = True
    model = build(options.shape)
    sections = {
        "equality": _equality.main,
        "cost": lambda: cost(model, options),
        "tokens": lambda: tokens(model, options),
        "memory": lambda: memory(model, options),
    }
    for name in [options.only] if options.only else SECTIONS:
        print(f"\n{name}", flush=True)
        good = sections[name]() and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
