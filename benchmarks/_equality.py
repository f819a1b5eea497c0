"""Ours against the retained-gradient reference, number by number, in float32; and bf16 beside it.

Random models with sharpened weights (fresh ones attend almost uniformly, and errors would hide),
small images of 100 tokens, answers of 8. A target is its positions by the time it gets here, so a
keyword and a span of characters differ in nothing but which tokens they are; how words become
positions is tested where that is done.
"""

from __future__ import annotations

import itertools
from collections import defaultdict

import torch
from _measure import verdict
from _models import BETWEEN, LEAD, build, passage_of
from torch import Tensor
from transformers import Gemma3ForConditionalGeneration

from medgemma_worker.relevancy.explain import Passage, RelevancyRow, explain
from medgemma_worker.relevancy.retained import retained_row

OTHERS, OWN, SPEARMAN = 1e-5, 1e-6, 0.99
IMAGE, QUESTION, ANSWER = 100, 12, 8
HEADS = ((8, 4), (4, 1), (16, 16))
WINDOWS = (4096, 48)
"""Above the length and below it."""


def passages(model: Gemma3ForConditionalGeneration) -> list[Passage]:
    """With 1, 2, 3 and 4 images: 128 to 440 tokens."""
    lengths = [LEAD + n * (IMAGE + BETWEEN) + QUESTION + ANSWER - 1 for n in (1, 2, 3, 4)]
    return [passage_of(model, s, n, image=IMAGE) for n, s in enumerate(lengths, start=1)]


def targets(passage: Passage) -> dict[str, list[tuple[int, ...]]]:
    """Targets by kind; the last image's question stands between it and the answer."""
    end = passage.token_ids.numel()
    first, last_image = end - ANSWER, passage.images[-1][1]
    found = {
        "one token": [(end - 1,)],
        "keyword": [(first + 2, first + 3, first + 4)],
        "answer": [tuple(range(first, end))],
        "characters": [(first + 1, first + 2)],
        "every token": [(p,) for p in range(first, end)],
        "prompt, after images": [(last_image + 6, last_image + 7)],
    }
    if len(passage.images) > 1:
        between = passage.images[0][1]
        found["prompt, between images"] = [(between + 1, between + 2)]
    return found


def gaps(row: RelevancyRow, reference: Tensor, positions: tuple[int, ...]) -> tuple[float, float]:
    """Largest difference on other positions over the largest value there; and on its own."""
    own = torch.zeros(reference.numel(), dtype=torch.bool)
    own[list(row.own)] = True
    gained = torch.zeros(reference.numel())
    gained[: row.gained.numel()] = row.gained
    expected = reference - own.float() / len(positions)
    gap = (gained - expected).abs()
    return float(gap[~own].max() / expected[~own].abs().max()), float(gap[own].max())


def sharpened(heads: int, kv_heads: int, window: int) -> Gemma3ForConditionalGeneration:
    model = build(
        "tiny", num_attention_heads=heads, num_key_value_heads=kv_heads, sliding_window=window
    )
    with torch.no_grad():
        for name, weight in model.model.language_model.named_parameters():
            if weight.ndim > 1 and "embed" not in name:
                weight.mul_(4.0)
    return model


def spearman(a: Tensor, b: Tensor) -> float:
    """Correlation of ranks: float32 (S,) each."""
    ranks = torch.stack([x.argsort().argsort().double() for x in (a, b)])
    return float(torch.corrcoef(ranks)[0, 1])


def main() -> bool:
    worst: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    correlations = []
    for (heads, kv_heads), window in itertools.product(HEADS, WINDOWS):
        model = sharpened(heads, kv_heads, window)
        cases = passages(model)
        wanted = [targets(passage) for passage in cases]
        alone = [
            explain(model, [p], [[t for ts in of.values() for t in ts]], methods=["chefer"])[0]
            for p, of in zip(cases, wanted, strict=True)
        ]
        flat = [[t for ts in of.values() for t in ts] for of in wanted]
        together = explain(model, cases, flat, methods=["chefer"])
        for n, (passage, of) in enumerate(zip(cases, wanted, strict=True)):
            kinds = [kind for kind, ts in of.items() for _ in ts]
            for i, (kind, positions) in enumerate(zip(kinds, flat[n], strict=True)):
                whole = passage.embeddings, passage.kinds, passage.token_ids
                # The reference sees the whole sequence: what is left out must make no difference.
                reference = retained_row(model, *whole, positions)
                for size, found in (("1", alone[n][i]), ("4", together[n][i])):
                    worst[kind, size].append(gaps(found, reference, positions))
        correlations += [
            (f"{heads}/{kv_heads} heads, window {window}", c) for c in halved(model, cases, alone)
        ]
        print(f"({heads}/{kv_heads} heads, window {window}: done)", flush=True)
    print(f"{'target':<24} {'batch':>5} {'cases':>6} {'others':>9} {'own':>9}")
    for (kind, size), found in worst.items():
        others, own = (max(column) for column in zip(*found, strict=True))
        print(f"{kind:<24} {size:>5} {len(found):>6} {others:>9.1e} {own:>9.1e}")
    every = [pair for found in worst.values() for pair in found]
    others, own = (max(column) for column in zip(*every, strict=True))
    where, least = min(correlations, key=lambda pair: pair[1])
    good = verdict(
        f"others at most {OTHERS:.0e} (worst {others:.1e}), own at most {OWN:.0e} "
        f"(worst {own:.1e}), {len(every)} comparisons",
        others <= OTHERS and own <= OWN,
    )
    return (
        verdict(
            f"bf16 against float32: Spearman at least {SPEARMAN} (least {least:.4f} of "
            f"{len(correlations)}: {where})",
            least >= SPEARMAN,
        )
        and good
    )


def halved(
    model: Gemma3ForConditionalGeneration,
    cases: list[Passage],
    alone: list[list[RelevancyRow]],
) -> list[float]:
    """Spearman's correlation of each case's first target (its last token) with the same model cast
    to bfloat16, over the positions before p-1."""
    found = []
    model.to(torch.bfloat16)
    for passage, rows in zip(cases, alone, strict=True):
        low = Passage(passage.embeddings.bfloat16(), passage.kinds, passage.token_ids)
        end = passage.token_ids.numel() - 1
        row = explain(model, [low], [[(end,)]], methods=["chefer"])[0][0].gained
        found.append(spearman(row[: end - 1], rows[0].gained[: end - 1]))
    return found
