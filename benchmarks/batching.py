"""Questions answered together on the phantom: the same tokens and maps, and for how much less.

    python benchmarks/batching.py

Exactness, float32 on the CPU: eight questions with 1 to 3 images and prompts of several lengths,
answered as one batch and one by one. Then, in interleaved rounds of one run, the seconds of
generation for each job in batches of 1, 2, 4 and 8 (the vision tower among them), and of explaining
eight answers one by one and together.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Collection, Sequence

import numpy as np
from _measure import interleaved, ratio, verdict

from medgemma_tasks.explanation import ExplanationResult
from medgemma_worker.answering import answer_many
from medgemma_worker.conversation import Prepared
from medgemma_worker.explainer import MedGemmaExplainer
from medgemma_worker.explaining import Answered, explain_answered
from medgemma_worker.loading import load_medgemma
from medgemma_worker.phantom.images import make_phantom
from medgemma_worker.question import ask

BATCHES = (1, 2, 4, 8)
ALLOWED, WANTED = 1e-5, 2.5
PROMPTS = (
    "Is there a finding?",
    "Describe this film in a few words, please.",
    "What do you see, and where in the chest does it lie?",
)


def quiet(progress: Sequence[float]) -> Collection[int]:
    return ()


class Together:
    """The phantom, and its answers and maps by batch."""

    def __init__(self) -> None:
        model, processor, _ = load_medgemma("phantom", device="cpu")
        self.explainer = MedGemmaExplainer(model, processor)

    def ready(self, seed: int, prompt: str, images: int = 1) -> Prepared:
        films = [make_phantom(seed + i).image for i in range(images)]
        return self.explainer.prepare(ask(films, prompt))

    def answers(self, asked: Sequence[Prepared]) -> list[Answered]:
        found = answer_many(self.explainer.model, self.explainer.processor, asked, quiet)
        return [one for one in found if isinstance(one, Answered)]

    def maps(self, answered: Sequence[Answered]) -> list[ExplanationResult]:
        model, processor = self.explainer.model, self.explainer.processor
        found = explain_answered(model, processor, answered, lambda _: None)
        return [one for (one,) in found]


def exactness(phantom: Together) -> bool:
    asked = [
        phantom.ready(940_000 + 10 * i, PROMPTS[i % len(PROMPTS)], 1 + i % 3) for i in range(8)
    ]
    together = phantom.answers(asked)
    alone = [phantom.answers([one])[0] for one in asked]
    equal = [
        a.sequence.ids.tolist() == b.sequence.ids.tolist()
        for a, b in zip(together, alone, strict=True)
    ]
    lone = [phantom.maps([one])[0] for one in alone]
    good = verdict(
        f"{sum(equal)} of 8 answers equal token for token, of "
        f"{len({one.prompt.length for one in asked})} lengths of prompt",
        all(equal),
    )
    for name, found in (
        ("answered together, explained one by one", [phantom.maps([one])[0] for one in together]),
        ("answered together, explained together", phantom.maps(together)),
    ):
        gaps = [difference(a, b) for a, b in zip(found, lone, strict=True)]
        absolute, relative = (max(column) for column in zip(*gaps, strict=True))
        what = f"{name}: largest difference {absolute:.1e}, {relative:.1e} of the largest value"
        good = verdict(f"{what} (at most {ALLOWED:.0e})", relative <= ALLOWED) and good
    return good


def difference(one: ExplanationResult, other: ExplanationResult) -> tuple[float, float]:
    """Largest difference of any position's score, and as a part of the largest score."""
    a, b = (
        np.concatenate([result.image_scores.ravel(), result.text_scores]) for result in (one, other)
    )
    gap = float(np.abs(a - b).max())
    return gap, gap / float(np.abs(b).max())


def cost(phantom: Together, rounds: int) -> bool:
    asked = [phantom.ready(950_000 + i, PROMPTS[0]) for i in range(8)]

    def generating(size: int) -> Callable[[], object]:
        return lambda: [phantom.answers(asked[i : i + size]) for i in range(0, 8, size)]

    ways = {f"batches of {size}": generating(size) for size in BATCHES}
    seconds = interleaved(ways, dict.fromkeys(ways, rounds))
    print(f"{'generating':<16} {'s per job':>10} {'times faster':>13}")
    for name, times in seconds.items():
        faster = ratio(seconds["batches of 1"], times)
        print(f"{name:<16} {statistics.median(times) / 8:>10.4f} {faster:>13.2f}")
    answered = phantom.answers(asked)
    ways = {
        "one by one": lambda: [phantom.maps([one]) for one in answered],
        "together": lambda: phantom.maps(answered),
    }
    explaining = interleaved(ways, dict.fromkeys(ways, rounds))
    print(f"{'explaining 8':<16} {'s per job':>10}")
    for name, times in explaining.items():
        print(f"{name:<16} {statistics.median(times) / 8:>10.4f}")
    apart = ratio(explaining["together"], explaining["one by one"])
    print(f"explaining together takes {apart:.2f} times what one by one takes")
    faster = ratio(seconds["batches of 1"], seconds["batches of 8"])
    return verdict(f"a batch of 8 is {faster:.2f} times faster ({WANTED} asked)", faster >= WANTED)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    phantom = Together()
    exact = exactness(phantom)
    return 0 if cost(phantom, options.rounds) and exact else 1


if __name__ == "__main__":
    sys.exit(main())
